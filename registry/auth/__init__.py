"""Who a client is and what it may do: identity, password file, password cache, access rules."""
