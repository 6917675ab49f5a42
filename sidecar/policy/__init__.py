"""Who a caller is and how much it gets: decisions only, which are told the time and never wait."""
