package kubetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// applyTime is how long the API server may take until it serves a new kind, or
// has deleted an object: a second or two, and on a busy machine more.
const applyTime = 2 * time.Minute

// manifest is what Apply has to know of an object.
type manifest struct {
	APIVersion string
	Kind       string
	Metadata   struct{ Name, Namespace string }
	// Spec is that of a CustomResourceDefinition.
	Spec struct {
		Group    string
		Names    struct{ Plural string }
		Versions []struct{ Name string }
	}
	content []byte
}

// resource is what discovery says of a kind.
type resource struct {
	Name       string
	Kind       string
	Namespaced bool
}

// Apply creates the objects of YAML documents, or changes those that exist, as
// Admin, by server-side apply. An object without a namespace goes to
// "default". When Apply returns, the kinds that it defined are served. Rights
// take effect a moment later, see [Cluster.WaitAllowed].
func (c *Cluster) Apply(documents ...string) error {
	manifests, err := parseManifests(documents)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		if err = c.apply(m); err != nil {
			return fmt.Errorf("apply %s %q: %w", m.Kind, m.Metadata.Name, err)
		}
	}
	return nil
}

// Delete deletes the objects of YAML documents as `kubectl delete -f` does: in
// their order, and it returns when each is gone. Those that are not there are
// fine. What they own, such as a DaemonSet's pods, goes a moment later.
func (c *Cluster) Delete(documents ...string) error {
	manifests, err := parseManifests(documents)
	if err != nil {
		return err
	}
	for _, m := range manifests {
		if err = c.delete(m); err != nil {
			return fmt.Errorf("delete %s %q: %w", m.Kind, m.Metadata.Name, err)
		}
	}
	return nil
}

func (c *Cluster) delete(m manifest) error {
	path, err := c.objectPath(m)
	if err != nil {
		return err
	}
	return Poll(applyTime, func() (bool, error) {
		answer, delErr := c.Do(http.MethodDelete, path+"?propagationPolicy=Background", nil)
		if delErr != nil {
			return false, delErr
		}
		if answer.Code == http.StatusNotFound {
			return true, nil
		}
		return false, answer.Err()
	})
}

func parseManifests(documents []string) ([]manifest, error) {
	separator := regexp.MustCompile(`(?m)^---\s*$`)
	var manifests []manifest
	for _, document := range slices.Concat(splitAll(separator, documents)...) {
		content, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("parse manifest: %w:\n%s", err, document)
		}
		if string(content) == "null" {
			continue
		}
		m := manifest{content: content}
		if err = json.Unmarshal(content, &m); err != nil {
			return nil, fmt.Errorf("parse manifest: %w:\n%s", err, document)
		}
		if m.APIVersion == "" || m.Kind == "" || m.Metadata.Name == "" {
			return nil, fmt.Errorf("a manifest needs apiVersion, kind and metadata.name:\n%s", document)
		}
		manifests = append(manifests, m)
	}
	return manifests, nil
}

func splitAll(separator *regexp.Regexp, documents []string) [][]string {
	var parts [][]string
	for _, document := range documents {
		parts = append(parts, separator.Split(document, -1))
	}
	return parts
}

func (c *Cluster) apply(m manifest) error {
	path, err := c.objectPath(m)
	if err != nil {
		return err
	}
	answer, err := c.client().do(http.MethodPatch, path+"?fieldManager=kubetest&force=true", "application/apply-patch+yaml", m.content)
	if err != nil {
		return err
	}
	if err = answer.Err(); err != nil {
		return err
	}
	if m.Kind == "CustomResourceDefinition" {
		return c.waitServes(m)
	}
	return nil
}

// objectPath finds out under which path the API server has the object.
func (c *Cluster) objectPath(m manifest) (string, error) {
	base := "/apis/" + m.APIVersion
	if !strings.Contains(m.APIVersion, "/") {
		base = "/api/" + m.APIVersion
	}
	r, err := c.resource(base, m.Kind)
	if err != nil {
		return "", err
	}
	if r.Namespaced {
		namespace := m.Metadata.Namespace
		if namespace == "" {
			namespace = "default"
		}
		base += "/namespaces/" + url.PathEscape(namespace)
	}
	return base + "/" + r.Name + "/" + url.PathEscape(m.Metadata.Name), nil
}

func (c *Cluster) resource(base, kind string) (resource, error) {
	answer, err := c.Do(http.MethodGet, base, nil)
	if err != nil {
		return resource{}, err
	}
	var found struct{ Resources []resource }
	if err = answer.Into(&found); err != nil {
		return resource{}, fmt.Errorf("ask which kinds %s has: %w", base, err)
	}
	at := slices.IndexFunc(found.Resources, func(r resource) bool {
		// The name of a subresource has a slash.
		return r.Kind == kind && !strings.Contains(r.Name, "/")
	})
	if at < 0 {
		return resource{}, errors.New("the API server does not have this kind")
	}
	return found.Resources[at], nil
}

// waitServes returns when the kinds of a CustomResourceDefinition are listed
// by discovery and can be read.
func (c *Cluster) waitServes(m manifest) error {
	for _, version := range m.Spec.Versions {
		base := "/apis/" + m.Spec.Group + "/" + version.Name
		err := Poll(applyTime, func() (bool, error) {
			for _, path := range []string{base, base + "/" + m.Spec.Names.Plural + "?limit=1"} {
				answer, doErr := c.Do(http.MethodGet, path, nil)
				if doErr != nil {
					return false, doErr
				}
				if doErr = answer.Err(); doErr != nil {
					return false, fmt.Errorf("get %s: %w", path, doErr)
				}
			}
			return true, nil
		})
		if err != nil {
			return fmt.Errorf("wait for the new kind: %w", err)
		}
	}
	return nil
}
