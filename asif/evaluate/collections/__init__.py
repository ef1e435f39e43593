"""Collections of data sets: evaluated one after another, in one table, with shifted versions of a set compared."""
