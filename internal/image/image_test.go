package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// sources copies what an image is built from.
func sources(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	for _, dir := range []string{"cmd", "pkg"} {
		if err := os.CopyFS(filepath.Join(to, dir), os.DirFS(filepath.Join(from, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum", "LICENSE"} {
		content, err := os.ReadFile(filepath.Join(from, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, file), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// build runs the program itself: the race detector slows the compression of
// the layers down to minutes.
func build(t *testing.T, dir string) string {
	t.Helper()
	program, err := nettest.BuildProgram("MULTIPLEXER_IMAGE_BIN", "./internal/image")
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "bin", "image.tar")
	cmd := exec.CommandContext(t.Context(), program, "-C", dir, "-arch", runtime.GOARCH, "-o", archive,
		"-repository", "example.com/multiplexer", "-version", "1.2.3", "-revision", "abc", "-created", "1000")
	if out, runErr := cmd.CombinedOutput(); runErr != nil {
		t.Fatalf("%v: %s", runErr, out)
	}
	return archive
}

// Where the sources are, and what the user's environment says of builds,
// changes no byte.
func TestTheSameSourcesGiveTheSameBytes(t *testing.T) {
	here := sources(t, "../..")
	there := sources(t, here)
	one := build(t, here)
	t.Setenv("GOFLAGS", "-tags=other -ldflags=-X=main.version=other")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TMPDIR", t.TempDir())
	two := build(t, there)
	a, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(two)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%d and %d bytes, and they differ", len(a), len(b))
	}
	checkContent(t, one)
	checkRuns(t, one)
}

// checkContent makes sure that the image holds two programs and licences, and
// neither a shell nor anything else.
func checkContent(t *testing.T, archive string) {
	t.Helper()
	var names []string
	layers := layersOf(t, archive)
	for _, layer := range layers {
		for name, content := range layer {
			names = append(names, name)
			if strings.HasPrefix(name, "usr/bin/") && !bytes.HasPrefix(content, []byte("\x7fELF")) && !strings.HasSuffix(name, "/") {
				t.Errorf("%s is no program", name)
			}
		}
	}
	programs := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasPrefix(n, "licenses/") })
	slices.Sort(programs)
	if want := []string{"usr/", "usr/bin/", "usr/bin/multiplexer", "usr/bin/multiplexerd"}; !slices.Equal(programs, want) {
		t.Errorf("it holds %q, want %q", programs, want)
	}
	for _, of := range []string{"licenses/multiplexer/LICENSE", "licenses/go/LICENSE", "licenses/github.com/containernetworking/cni@", "licenses/k8s.io/client-go@"} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, of) }) {
			t.Errorf("the licence %s is missing", of)
		}
	}
}

// layersOf unpacks the layers of the archive's one image, by docker's manifest.
func layersOf(t *testing.T, archive string) []map[string][]byte {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := untar(t, f)
	var manifest []struct{ Layers []string }
	if err = json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("manifest.json: %v: %s", err, files["manifest.json"])
	}
	var layers []map[string][]byte
	for _, name := range manifest[0].Layers {
		zip, zerr := gzip.NewReader(bytes.NewReader(files[name]))
		if zerr != nil {
			t.Fatal(zerr)
		}
		layers = append(layers, untar(t, zip))
	}
	return layers
}

func untar(t *testing.T, from io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(from); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestArchitecturesAreNamed(t *testing.T) {
	o := options{repository: "a/b", version: "1", arches: "amd64,mips", out: filepath.Join(t.TempDir(), "x.tar"), dir: t.TempDir()}
	if err := o.build(t.Context(), "mips", "x"); err == nil || !strings.Contains(err.Error(), `"mips"`) {
		t.Error(err)
	}
}

// A module whose terms are not known is not handed on.
func TestModulesNeedALicence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "license_test.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := textsOf("example.com/m@v1", dir); err == nil || !strings.Contains(err.Error(), "example.com/m@v1") {
		t.Errorf("without a licence: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENCE.md"), []byte("terms"), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := textsOf("example.com/m@v1", dir)
	if err != nil || len(files) != 1 || files[0].Path != "licenses/example.com/m@v1/LICENCE.md" {
		t.Errorf("%+v, %v", files, err)
	}
}
