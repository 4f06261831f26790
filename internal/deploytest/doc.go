// Package deploytest tests what deploy/ ships: the Helm chart with real helm
// and a real API server, and the manifests that are generated from it.
package deploytest
