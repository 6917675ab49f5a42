"""The configuration: `model` is what it says, `load` reads it, `dump` shows it, `watch` sees it change."""
