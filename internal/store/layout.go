// Package store is the state directory: where every file of BandSox lies, the
// records of its sandboxes and images, and the locks that keep several
// processes from treading on each other.
//
// Records are rows of one SQLite file. What is big (bases, disks, kernels) is
// plain files, written under a temporary name, flushed and renamed, so that
// a file with its final name is whole.
package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Layout is a state directory. It alone knows the names of the files in it.
type Layout string

func (l Layout) path(elem ...string) string {
	return filepath.Join(append([]string{string(l)}, elem...)...)
}

// Dir is the state directory itself.
func (l Layout) Dir() string { return string(l) }

// Database holds the records.
func (l Layout) Database() string { return l.path("bandsox.db") }

// Lock is held by whoever has the directory open: exclusively by an owner,
// shared by those that share it.
func (l Layout) Lock() string { return l.path("lock") }

// Auth holds the password and the API keys. Without it there are none.
func (l Layout) Auth() string { return l.path("auth.json") }

// Audit is the log of who did what through a server.
func (l Layout) Audit() string { return l.path("audit.jsonl") }

// Socket is where a server listens for whoever may open it.
func (l Layout) Socket() string { return l.path("server.sock") }

// ServerLog is what a server in the background says.
func (l Layout) ServerLog() string { return l.path("server.log") }

// ServerLock is held by whoever starts a server in the background.
func (l Layout) ServerLock() string { return l.path("server.lock") }

// Certificate is a server's self-signed certificate, with its key.
func (l Layout) Certificate() string { return l.path("tls.pem") }

// Webhooks are whom a server tells of events, and how far each has been told.
func (l Layout) Webhooks() string { return l.path("webhooks.json") }

// Reserve is room kept for the day when the disk is full: then it is given up,
// so that what frees space can still be written down.
func (l Layout) Reserve() string { return l.path("reserve") }

// Kernels holds the installed guest kernels.
func (l Layout) Kernels() string { return l.path("kernels") }

// Bin holds the programs that were installed: each of a version once, and links
// to those in use.
func (l Layout) Bin() string { return l.path("bin") }

// Bases holds one file system and one sidecar for each image digest.
func (l Layout) Bases() string { return l.path("bases") }

// Base is the read-only file system made from the image of this digest.
func (l Layout) Base(digest string) string { return l.path("bases", hex(digest)+".ext4") }

// BaseInfo is the sidecar of a base: its image's name, config and sizes.
func (l Layout) BaseInfo(digest string) string { return l.path("bases", hex(digest)+".json") }

// BasesLock is the file that LockBase locks bytes of.
func (l Layout) BasesLock() string { return l.path("bases", "lock") }

// Initramfs is the initial file system for this agent and kernel.
func (l Layout) Initramfs(key string) string { return l.path("initramfs", key+".cpio") }

// ScratchDirs holds one directory for each process that has the state
// directory open, for its half-written files: Owner.String names it.
func (l Layout) ScratchDirs() string { return l.path("scratch") }

// Sandboxes holds one directory for each sandbox.
func (l Layout) Sandboxes() string { return l.path("sandboxes") }

// Sandbox is one sandbox's directory.
func (l Layout) Sandbox(id string) string { return l.path("sandboxes", id) }

// Disk is a sandbox's own disk.
func (l Layout) Disk(id string) string { return l.path("sandboxes", id, "disk.ext4") }

// Machine is the directory of a sandbox's machine: sockets and console.
func (l Layout) Machine(id string) string { return l.path("sandboxes", id, "machine") }

// SandboxLock is held by the process that is connected to the sandbox's agent.
func (l Layout) SandboxLock(id string) string { return l.path("sandboxes", id, "lock") }

// Snapshots holds one directory for each snapshot.
func (l Layout) Snapshots() string { return l.path("snapshots") }

// Snapshot is one snapshot's directory: it is whole when it has this name.
func (l Layout) Snapshot(id string) string { return l.path("snapshots", id) }

// Templates holds the snapshots of sandboxes that had just booted.
func (l Layout) Templates() string { return l.path("templates") }

// Template is the directory of the one with this key, as whole as a snapshot's.
func (l Layout) Template(key string) string { return l.path("templates", key) }

// The files of a snapshot beside those of its machine.
const (
	SnapshotRecord = "snapshot.json"
	SnapshotDisk   = "disk.ext4"
)

// make creates the directories that a state directory has.
func (l Layout) make() error {
	if err := os.MkdirAll(l.Dir(), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{"bases", "initramfs", "kernels", "sandboxes", "scratch", "snapshots", "templates"} {
		if err := os.MkdirAll(l.path(dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// DefaultDir is the state directory where none is named: BANDSOX_STORAGE, else
// /var/lib/bandsox for root, else bandsox under the user's data directory.
func DefaultDir() (string, error) {
	if dir := os.Getenv("BANDSOX_STORAGE"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/var/lib/bandsox", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bandsox"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the state directory: %w", err)
	}
	return filepath.Join(home, ".local", "share", "bandsox"), nil
}

// hex is the digest without its algorithm. Digests are checked where they
// enter, in ValidDigest, so that none can name a file elsewhere.
func hex(digest string) string {
	_, h, ok := strings.Cut(digest, ":")
	if !ok || !ValidDigest(digest) {
		panic("store: not a digest: " + digest)
	}
	return h
}

// ValidDigest reports whether s is sha256: and 64 hex digits.
func ValidDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(h) == 64 && strings.Trim(h, "0123456789abcdef") == ""
}
