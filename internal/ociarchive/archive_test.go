package ociarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() Archive {
	return Archive{
		Name: "example.com:5000/team/thing:1.2", Created: time.Unix(1000, 0), Labels: map[string]string{"b": "2", "a": "1"},
		Images: []Image{
			{Arch: "amd64", Layers: [][]File{{{"licenses/LICENSE", 0o644, []byte("free")}}, {{"usr/bin/b", 0o755, []byte("B")}, {"usr/bin/a", 0o755, []byte("A")}}}, Entrypoint: []string{"/usr/bin/a"}, Env: []string{"PATH=/usr/bin"}},
			{Arch: "arm64", Layers: [][]File{{{"usr/bin/a", 0o755, []byte("C")}}}, Entrypoint: []string{"/usr/bin/a"}},
		},
	}
}

func written(t *testing.T, a Archive) (content []byte, digest string) {
	t.Helper()
	var out bytes.Buffer
	digest, err := a.Write(&out)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), digest
}

// entries reads a tar file, and fails on what depends on the moment or the user.
func entries(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 0 || header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Mode&0o022 != 0 {
			t.Errorf("%s: %+v", header.Name, header)
		}
		if _, twice := files[header.Name]; twice {
			t.Errorf("%s is there twice", header.Name)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func into[T any](t *testing.T, content []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(content, &v); err != nil {
		t.Fatalf("%v: %s", err, content)
	}
	return v
}

// part returns what a descriptor names, and checks that it is that.
func part(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	content, there := files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
	if !there || len(content) != d.Size || fmt.Sprintf("sha256:%x", sha256.Sum256(content)) != d.Digest {
		t.Fatalf("%s: there %v, %d bytes, want %d", d.Digest, there, len(content), d.Size)
	}
	return content
}

func TestOneFileForAll(t *testing.T) {
	content, digest := written(t, sample())
	files := entries(t, content)
	top := into[manifest](t, files["index.json"])
	if len(top.Manifests) != 1 || top.Manifests[0].Digest != digest ||
		top.Manifests[0].Annotations["io.containerd.image.name"] != "example.com:5000/team/thing:1.2" ||
		top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "1.2" {
		t.Fatalf("index.json: %s, want %s", files["index.json"], digest)
	}
	index := into[manifest](t, part(t, files, top.Manifests[0]))
	docker := into[[]dockerManifest](t, files["manifest.json"])
	if len(index.Manifests) != 2 || len(docker) != 2 {
		t.Fatalf("%d and %d images", len(index.Manifests), len(docker))
	}
	for i, want := range sample().Images {
		platform := index.Manifests[i].Platform
		if platform == nil || platform.Architecture != want.Arch || platform.OS != "linux" {
			t.Errorf("platform %+v, want %s", platform, want.Arch)
		}
		m := into[manifest](t, part(t, files, index.Manifests[i]))
		config := into[struct {
			Architecture string
			Config       struct {
				Entrypoint, Env []string
				Labels          map[string]string
				User            string
			}
			Rootfs struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}](t, part(t, files, *m.Config))
		if config.Architecture != want.Arch || !slices.Equal(config.Config.Entrypoint, want.Entrypoint) || !slices.Equal(config.Config.Env, want.Env) ||
			config.Config.Labels["a"] != "1" || config.Config.User != "0:0" || len(config.Rootfs.DiffIDs) != len(m.Layers) {
			t.Errorf("%s: %+v", want.Arch, config)
		}
		for j, l := range m.Layers {
			checkLayer(t, part(t, files, l), config.Rootfs.DiffIDs[j], want.Layers[j])
			if "blobs/sha256/"+strings.TrimPrefix(l.Digest, "sha256:") != docker[i].Layers[j] {
				t.Errorf("docker's layer %s, want %s", docker[i].Layers[j], l.Digest)
			}
		}
		if docker[i].Config != "blobs/sha256/"+strings.TrimPrefix(m.Config.Digest, "sha256:") || !slices.Equal(docker[i].RepoTags, []string{sample().Name + "-" + want.Arch}) {
			t.Errorf("docker's manifest: %+v", docker[i])
		}
	}
}

func checkLayer(t *testing.T, packed []byte, diffID string, want []File) {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(plain)); sum != diffID {
		t.Errorf("diff ID %s, want %s", diffID, sum)
	}
	files := entries(t, plain)
	for _, f := range want {
		if !bytes.Equal(files[f.Path], f.Content) {
			t.Errorf("%s: %q, want %q", f.Path, files[f.Path], f.Content)
		}
		if _, there := files[f.Path[:strings.LastIndex(f.Path, "/")+1]]; !there {
			t.Errorf("the directory of %s is missing", f.Path)
		}
	}
}

func TestTheOrderOfFilesDoesNotMatter(t *testing.T) {
	one, _ := written(t, sample())
	other := sample()
	slices.Reverse(other.Images[0].Layers[1])
	two, _ := written(t, other)
	if !bytes.Equal(one, two) {
		t.Error("the archives differ")
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	for says, change := range map[string]func(*Archive){
		"want a repository and a tag":   func(a *Archive) { a.Name = "example.com:5000/thing" },
		"needs an image":                func(a *Archive) { a.Images = nil },
		"begins with no slash":          func(a *Archive) { a.Images[0].Layers[0][0].Path = "/etc/passwd" },
		"has no . or .. in it":          func(a *Archive) { a.Images[0].Layers[0][0].Path = "../x" },
		`file "usr/bin/a": it is there`: func(a *Archive) { a.Images[0].Layers[1][0].Path = "usr/bin/a" },
	} {
		a := sample()
		change(&a)
		if _, err := a.Write(io.Discard); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q: %v", says, err)
		}
	}
}
