"""The record of what was posted (ledger.py), the commands that manage it (operate.py), and the removal of stored data (purge.py)."""
