"""Lists of records: what an address asks for, one page of it as fast at any depth, and what the screen shows around it."""
