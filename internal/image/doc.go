// Package image turns a reference into one flattened tar stream, a config and
// a digest. A reference may name an image in a registry, in a running docker
// daemon, in an archive, in an OCI layout, a plain directory, or bandsox/base,
// the Debian image with Python that is built from Debian's own packages.
//
// Everything that comes from an image (manifests, configs, layers, archives)
// is taken for hostile: it is bounded, its digests are checked, and no name in
// it is ever used as a path on the host.
//
// Read image.go first, then reference.go, layered.go and one file for each
// kind of source.
package image
