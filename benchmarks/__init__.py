"""Measurements of the bridge. Guards of its cost stand here, the contest with other servers in `contest`."""
