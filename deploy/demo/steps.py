"""What the scripted model does in each turn of the story, by number."""

from model import Step

STEPS = (
    Step(
        asks="How many SKU-17 are there?", says="I look at the stock.", tool="get_stock", arguments='{"sku": "SKU-17"}'
    ),
    Step(
        asks="What are our terms with SUP-4?",
        says="I read the terms.",
        tool="get_supplier_terms",
        arguments='{"supplier_id": "SUP-4"}',
        sdk="anthropic",
    ),
    Step(
        asks="And our own floor price?", says="I need the price list.", tool="get_price", arguments='{"sku": "SKU-17"}'
    ),
    Step(asks="And once more, please.", says="Once more.", tool="get_price", arguments='{"sku": "SKU-17"}'),
    Step(
        asks="Order 5000 from SUP-4.",
        says="I order.",
        tool="create_order",
        arguments='{"supplier_id": "SUP-4", "sku": "SKU-17", "quantity": 5000}',
        sdk="anthropic",
    ),
    Step(asks="Send them a fax.", says="I send a fax.", tool="send_fax", arguments='{"to": "SUP-4"}'),
    Step(asks="Stock of SKU-18?", says="I look.", tool="get_stock", arguments='{"skuu": "SKU-18"}'),
    Step(
        asks="Can SUP-9 deliver?",
        says="I ask for the capacity.",
        tool="get_supplier_capacity",
        arguments='{"vendor": "SUP-9"}',
        sdk="anthropic",
    ),
    Step(
        asks="Is SUP-9 any good?",
        says="I look up the rating.",
        tool="get_supplier_rating",
        arguments='{"supplier_id": "SUP-9"}',
    ),
    Step(asks="Count warehouse W1.", says="I start a count.", tool="start_stocktake", arguments='{"warehouse": "W1"}'),
    Step(
        asks="How many boxes are 96 pieces?",
        says="I convert.",
        tool="convert_units",
        arguments='{"quantity": 96, "unit": "box"}',
        sdk="anthropic",
    ),
    Step(asks="Stock of SKU-20?", says="I look.", tool="get_stock", arguments='{"sku": "SKU-20"}'),
    Step(asks="And now?", says="I look again.", tool="get_stock", arguments='{"sku": "SKU-20"}'),
)
