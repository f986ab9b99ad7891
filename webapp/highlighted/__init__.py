"""The highlighted fields of each module: the few that the page of a record shows first, as an admin has chosen them."""
