"""Workers on one machine or many: start them, hand them tasks, replace those that die."""
