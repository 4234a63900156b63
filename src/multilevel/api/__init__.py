"""The public doors: tables come in, options are checked, warnings are raised, frames go out."""
