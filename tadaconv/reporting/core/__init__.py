"""What two or more kinds of report use."""
