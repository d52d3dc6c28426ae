"""AutoDistil."""
