package nodetest

// Binaries is the directory of the cluster's programs, for nodes that are not
// made here.
func (c *Cluster) Binaries() string { return c.binaries }

// ImageArchive is the file with [Image], for nodes that are not made here.
func (c *Cluster) ImageArchive() string { return c.dir.File("image.tar") }
