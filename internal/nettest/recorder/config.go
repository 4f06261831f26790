package main

import (
	"encoding/json"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"
)

// config is the network configuration, as far as the recorder reads it.
type config struct {
	CNIVersion string                       `json:"cniVersion"`
	Name       string                       `json:"name"`
	Type       string                       `json:"type"`
	Dir        string                       `json:"dir"`
	Subnet     netip.Prefix                 `json:"subnet"`
	Steps      map[string][]json.RawMessage `json:"steps"`
	PrevResult json.RawMessage              `json:"prevResult"`
	Valid      []types.GCAttachment         `json:"cni.dev/valid-attachments"`
}

func (c *config) parse(raw []byte) error {
	if err := json.Unmarshal(raw, c); err != nil {
		return cniError(codeDecode, "decode configuration: %v", err)
	}
	if !filepath.IsAbs(c.Dir) {
		return cniError(codeConfig, "dir %q is no absolute path", c.Dir)
	}
	if c.Name == "" || filepath.Base(c.Name) != c.Name {
		return cniError(codeConfig, "name %q is no file name", c.Name)
	}
	if !c.Subnet.IsValid() {
		c.Subnet = netip.MustParsePrefix("10.99.0.0/24")
	}
	return nil
}
