package ociarchive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"
)

// File is a file of a layer. Its directories come by themselves.
type File struct {
	Path    string // without a slash at the beginning
	Mode    fs.FileMode
	Content []byte
}

// layer is a compressed layer, and the digest of it before.
type layer struct {
	blob
	diffID string
}

// makeLayer packs files. Files and directories are root's, of the Unix epoch.
func makeLayer(files []File) (layer, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return layer{}, err
	}
	plain := sha256.New()
	if err = writeTar(io.MultiWriter(zip, plain), files); err != nil {
		return layer{}, err
	}
	if err = zip.Close(); err != nil {
		return layer{}, err
	}
	return layer{blob: newBlob(typeLayer, packed.Bytes()), diffID: fmt.Sprintf("sha256:%x", plain.Sum(nil))}, nil
}

// writeTar writes sorted files, each after its directories.
func writeTar(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	made := map[string]bool{}
	for i, f := range files {
		if !fs.ValidPath(f.Path) || f.Path == "." {
			return fmt.Errorf("file %q: want a path that begins with no slash and has no . or .. in it", f.Path)
		}
		if i > 0 && files[i-1].Path == f.Path {
			return fmt.Errorf("file %q: it is there twice", f.Path)
		}
		if err := writeDirs(w, path.Dir(f.Path), made); err != nil {
			return err
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.Path, Size: int64(len(f.Content)), Mode: int64(f.Mode.Perm()), ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
	}
	return w.Close()
}

func writeDirs(w *tar.Writer, dir string, made map[string]bool) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := writeDirs(w, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
	if err != nil {
		return fmt.Errorf("directory %q: %w", dir, err)
	}
	return nil
}
