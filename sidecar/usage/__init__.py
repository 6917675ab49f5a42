"""What requests cost: prices, the ledger of tokens and dollars, and its tables."""
