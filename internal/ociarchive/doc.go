// Package ociarchive writes container images into a tar file, without a
// daemon: an OCI layout with one index over an image for each architecture,
// and docker's manifest beside it, so that `ctr images import`, `docker load`,
// skopeo and crane take the same file.
//
// The same input gives the same bytes: times and owners are fixed, entries
// are sorted, and gzip's header says nothing of the moment.
package ociarchive
