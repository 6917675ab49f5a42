"""What the fault scorecard is too short for: thousands of disconnects, a million events, exact overheads."""
