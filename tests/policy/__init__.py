"""Who calls and how much it gets, on a clock of the test's."""
