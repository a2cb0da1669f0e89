"""asyncblob: an asyncio-native blob transfer engine."""

__version__ = "0.1.0"
