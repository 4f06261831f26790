package ociarchive

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The media types of what is written.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Image is the image of one architecture.
type Image struct {
	Arch       string // as Go has it
	Layers     [][]File
	Entrypoint []string
	Env        []string
}

// Archive is what a tar file holds.
type Archive struct {
	Name    string // registry, repository and tag
	Created time.Time
	Labels  map[string]string // of each image, and annotations of the index
	Images  []Image
}

// blob is a part of an image, named by its digest.
type blob struct {
	descriptor
	content []byte
}

// descriptor is how one part names another.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// manifest is an index too: one has layers, the other manifests.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// dockerManifest is an entry of docker's manifest.json.
type dockerManifest struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

func newBlob(mediaType string, content []byte) blob {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	return blob{descriptor{MediaType: mediaType, Digest: digest, Size: len(content)}, content}
}

func jsonBlob(mediaType string, value any) (blob, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return blob{}, err
	}
	return newBlob(mediaType, content), nil
}

// path is where the blob is in the archive.
func (b blob) path() string { return "blobs/" + strings.Replace(b.Digest, ":", "/", 1) }

// Write writes the archive and returns the digest by which a registry will
// know the image.
func (a Archive) Write(to io.Writer) (string, error) {
	at := strings.LastIndex(a.Name, ":")
	if at < strings.LastIndex(a.Name, "/") || at < 1 || at == len(a.Name)-1 {
		return "", fmt.Errorf("image name %q: want a repository and a tag, such as example.com/name:1.0", a.Name)
	}
	if len(a.Images) == 0 {
		return "", errors.New("an archive needs an image")
	}
	index := manifest{SchemaVersion: 2, MediaType: typeIndex, Annotations: a.Labels}
	var docker []dockerManifest
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	for _, image := range a.Images {
		m, entry, err := a.add(image, files)
		if err != nil {
			return "", fmt.Errorf("image for %s: %w", image.Arch, err)
		}
		index.Manifests = append(index.Manifests, m)
		docker = append(docker, entry)
	}
	whole, err := jsonBlob(typeIndex, index)
	if err != nil {
		return "", err
	}
	files[whole.path()] = whole.content
	whole.Annotations = map[string]string{"io.containerd.image.name": a.Name, "org.opencontainers.image.ref.name": a.Name[at+1:]}
	for name, value := range map[string]any{
		"index.json":    manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{whole.descriptor}},
		"manifest.json": docker,
	} {
		if files[name], err = json.Marshal(value); err != nil {
			return "", err
		}
	}
	return whole.Digest, writeTar(to, sorted(files))
}

func sorted(files map[string][]byte) []File {
	var all []File
	for name, content := range files {
		all = append(all, File{Path: name, Mode: 0o644, Content: content})
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return all
}

// add puts the parts of an image into files.
func (a Archive) add(image Image, files map[string][]byte) (descriptor, dockerManifest, error) {
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Annotations: a.Labels}
	entry := dockerManifest{RepoTags: []string{a.Name + "-" + image.Arch}}
	var diffIDs []string
	for _, content := range image.Layers {
		l, err := makeLayer(content)
		if err != nil {
			return descriptor{}, entry, err
		}
		files[l.path()] = l.content
		m.Layers = append(m.Layers, l.descriptor)
		entry.Layers = append(entry.Layers, l.path())
		diffIDs = append(diffIDs, l.diffID)
	}
	config, err := jsonBlob(typeConfig, a.config(image, diffIDs))
	if err != nil {
		return descriptor{}, entry, err
	}
	files[config.path()] = config.content
	m.Config = &config.descriptor
	entry.Config = config.path()
	whole, err := jsonBlob(typeManifest, m)
	if err != nil {
		return descriptor{}, entry, err
	}
	files[whole.path()] = whole.content
	whole.Platform = &platform{Architecture: image.Arch, OS: "linux"}
	if image.Arch == "arm64" {
		whole.Platform.Variant = "v8"
	}
	return whole.descriptor, entry, nil
}

// config is what a runtime has to know of an image.
func (a Archive) config(image Image, diffIDs []string) map[string]any {
	created := a.Created.UTC().Format(time.RFC3339)
	var history []map[string]string
	for range diffIDs {
		history = append(history, map[string]string{"created": created, "created_by": "ociarchive"})
	}
	return map[string]any{
		"created": created, "architecture": image.Arch, "os": "linux",
		"config": map[string]any{
			"User": "0:0", "WorkingDir": "/", "Entrypoint": image.Entrypoint, "Env": image.Env, "Labels": a.Labels,
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
		"history": history,
	}
}
