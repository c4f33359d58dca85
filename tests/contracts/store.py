"""The contract suite of the store: every adapter passes it, and supplies nothing but a `place` (see `store_kit.Place`).

class TestMyStore(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place: ...
"""

from tests.contracts.store_approvals import ApprovalsContract
from tests.contracts.store_calls import CallsContract
from tests.contracts.store_conversations import ConversationsContract
from tests.contracts.store_reviews import ReviewsContract


class StoreContract(CallsContract, ReviewsContract, ApprovalsContract, ConversationsContract):
    """Calls, Reviews and Conversations over one state."""
