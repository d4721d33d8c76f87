"""Backups: one encrypted archive of everything that cannot be made anew (docs/backup.md)."""
