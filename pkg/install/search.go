package install

// SearchDirs are the directories in which the runtime searches plugins, in its
// order. Paths.BinDir is the one of them that ours goes into.
func SearchDirs(root string, given Given) ([]string, error) {
	if err := given.validate(); err != nil {
		return nil, err
	}
	if given.BinDir != "" {
		return []string{given.BinDir}, nil
	}
	found, err := host{root: root}.runtimes()
	if err != nil {
		return nil, err
	}
	c, err := choose(found, given)
	return c.binDirs, err
}
