// Command image builds the image of a release: multiplexerd and multiplexer
// for each architecture, the licences of what is linked into them, and
// nothing else. It needs no container daemon, and the same sources give the
// same bytes. `make image` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/ociarchive"
)

// options are the flags.
type options struct {
	repository, version, revision string
	created                       int64
	arches                        string
	out                           string
	dir                           string // the sources
}

func main() {
	var o options
	flag.StringVar(&o.repository, "repository", "ghcr.io/multiplexer-cni/multiplexer", "name of the image without its tag")
	flag.StringVar(&o.version, "version", "dev", "version of the programs, and the image's tag")
	flag.StringVar(&o.revision, "revision", "", "commit that is built")
	flag.Int64Var(&o.created, "created", 0, "time of that commit, in seconds since 1970")
	flag.StringVar(&o.arches, "arch", "amd64,arm64", "architectures, as Go names them")
	flag.StringVar(&o.out, "o", "bin/multiplexer-image.tar", "file to write")
	flag.StringVar(&o.dir, "C", ".", "directory of the sources")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := o.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run builds the programs and writes the archive.
func (o options) run(ctx context.Context, say io.Writer) error {
	began := time.Now()
	work, err := os.MkdirTemp("", "multiplexer-image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	a := ociarchive.Archive{Name: o.repository + ":" + o.version, Created: time.Unix(o.created, 0), Labels: o.labels()}
	for arch := range strings.SplitSeq(o.arches, ",") {
		image, ierr := o.image(ctx, arch, work)
		if ierr != nil {
			return ierr
		}
		a.Images = append(a.Images, image)
	}
	digest, size, err := o.write(a)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(say, "%s: %s for %s, %.1f MB, %s, in %.0f s\n",
		o.out, a.Name, o.arches, float64(size)/1e6, digest, time.Since(began).Seconds())
	return err
}

func (o options) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       "multiplexer",
		"org.opencontainers.image.description": "Several networks for pods: the node agent and the CNI plugin",
		"org.opencontainers.image.source":      "https://github.com/multiplexer-cni/multiplexer",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     o.version,
		"org.opencontainers.image.created":     time.Unix(o.created, 0).UTC().Format(time.RFC3339),
	}
	if o.revision != "" {
		labels["org.opencontainers.image.revision"] = o.revision
	}
	return labels
}

// image builds the programs for one architecture.
func (o options) image(ctx context.Context, arch, work string) (ociarchive.Image, error) {
	var programs []ociarchive.File
	var paths []string
	for _, name := range []string{"multiplexer", "multiplexerd"} {
		path := filepath.Join(work, arch, name)
		if err := o.build(ctx, arch, path); err != nil {
			return ociarchive.Image{}, err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return ociarchive.Image{}, err
		}
		paths = append(paths, path)
		programs = append(programs, ociarchive.File{Path: "usr/bin/" + name, Mode: 0o755, Content: content})
	}
	texts, err := o.licences(ctx, paths)
	if err != nil {
		return ociarchive.Image{}, err
	}
	return ociarchive.Image{
		Arch:       arch,
		Layers:     [][]ociarchive.File{texts, programs},
		Entrypoint: []string{"/usr/bin/multiplexerd"},
		Env:        []string{"PATH=/usr/bin"},
	}, nil
}

// write writes the archive beside its place and gives it its name when it is whole.
func (o options) write(a ociarchive.Archive) (digest string, size int64, err error) {
	if err = os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return "", 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(o.out), ".image-*")
	if err != nil {
		return "", 0, err
	}
	digest, err = a.Write(f)
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), o.out)
	}
	if err != nil {
		return "", 0, errors.Join(err, os.Remove(f.Name()))
	}
	return digest, size, nil
}
