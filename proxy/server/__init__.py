"""The inbound shell: three aiohttp listeners."""
