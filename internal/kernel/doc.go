// Package kernel finds or fetches a guest kernel, keeps it in the state
// directory with just the modules a sandbox needs, and makes the initramfs
// that carries them and the agent.
//
// Reading order: [Install] asks one source after the other (install.go,
// source_*.go) for files; stage (stage.go) makes one kernel of them, with the
// parsers in image.go, elf.go, deb.go and modules.go; publish (store.go) puts
// it in place whole or not at all; [Open] finds it again; [WriteInitramfs]
// uses it. [Fetch] and [FetchTarball] are the downloads beneath, of use to
// `bandsox init` for other files too.
package kernel
