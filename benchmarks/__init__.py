"""Commands that measure and print tables; nothing here is a test."""
