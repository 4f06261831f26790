package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// image is that of these sources, with the tag that deploy/install.yaml has.
type image struct {
	dir  string
	done chan struct{}
	err  error
}

// buildImage begins to build it.
func buildImage() *image {
	i := &image{done: make(chan struct{})}
	go func() {
		defer close(i.done)
		i.err = i.build()
	}()
	return i
}

func (i *image) build() error {
	manifest, err := os.ReadFile(deploy + "install.yaml")
	if err != nil {
		return err
	}
	tag := regexp.MustCompile(`(?m)^ +image: \S+:(\S+)$`).FindSubmatch(manifest)
	if tag == nil {
		return errors.New("deploy/install.yaml names no image with a tag")
	}
	if i.dir, err = os.MkdirTemp("", "multiplexer-e2e-"); err != nil {
		return err
	}
	return nodetest.BuildProductImage(string(tag[1]), i.file())
}

func (i *image) file() string { return filepath.Join(i.dir, "image.tar") }

// load gives the image to a node, which has no registry to pull from.
func (i *image) load(n *nodetest.Node) error {
	if <-i.done; i.err != nil {
		return i.err
	}
	return n.ImportImage(i.file())
}

func (i *image) remove() {
	<-i.done
	_ = os.RemoveAll(i.dir)
}
