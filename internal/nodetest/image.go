package nodetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// Image is what pods run: the program inside, see its package. It is on every
// node; nothing can be pulled.
const Image = "nodetest.local/inside:1"

// writeImage writes an archive as `docker save` does, with one layer that
// holds the program as /inside.
func writeImage(path, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read the image's program: %w", err)
	}
	layer, err := archive([]entry{
		{name: "proc/", mode: fs.ModeDir | 0o755},
		{name: "sys/", mode: fs.ModeDir | 0o755},
		{name: "dev/", mode: fs.ModeDir | 0o755},
		{name: "etc/", mode: fs.ModeDir | 0o755},
		{name: "inside", mode: 0o755, content: content},
	})
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/inside"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return fmt.Errorf("encode image: %w", err)
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": configName, "RepoTags": []string{Image}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return fmt.Errorf("encode image: %w", err)
	}
	image, err := archive([]entry{
		{name: configName, mode: 0o644, content: config},
		{name: "layer.tar", mode: 0o644, content: layer},
		{name: "manifest.json", mode: 0o644, content: manifest},
	})
	if err != nil {
		return err
	}
	if err = os.WriteFile(path, image, 0o644); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}

// entry is a file or directory of an archive.
type entry struct {
	name    string
	mode    fs.FileMode
	content []byte
}

func archive(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		kind := byte(tar.TypeReg)
		if e.mode.IsDir() {
			kind = tar.TypeDir
		}
		header := &tar.Header{Name: e.name, Typeflag: kind, Mode: int64(e.mode.Perm()), Size: int64(len(e.content))}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("archive %s: %w", e.name, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("archive %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end archive: %w", err)
	}
	return out.Bytes(), nil
}
