package sriovtest

import (
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// SetDefaultRoutes replaces the node's default routes.
func (m *Model) SetDefaultRoutes(routes ...sriov.DefaultRoute) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.defaults = routes
}

// DefaultRoutes implements sriov.Netns.
func (n *netns) DefaultRoutes() ([]sriov.DefaultRoute, error) {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	if n.space.path != "" {
		return nil, nil
	}
	return append([]sriov.DefaultRoute{}, n.model.defaults...), nil
}
