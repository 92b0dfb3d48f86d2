package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
)

// initFlags are those of the reference's init, and a checksum.
type initFlags struct {
	kernelURL, kernelSHA, kernelOutput string
	firecrackerURL, firecrackerSHA     string
	cniURL, cniDir                     string
	rootfsURL, rootfsSHA, rootfsOutput string
	skipKernel, skipCNI, skipRootfs    bool
	skipFirecracker                    bool
	force, asJSON                      bool
}

// initResult is what --json prints: what was got, and where it is.
type initResult struct {
	Kernel      *bandsox.Kernel      `json:"kernel,omitempty"`
	Firecracker *bandsox.Firecracker `json:"firecracker,omitempty"`
	Rootfs      string               `json:"rootfs,omitempty"`
	CNI         string               `json:"cni,omitempty"`
}

func newInit(a *app) *cobra.Command {
	var i initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Get what this machine lacks: a guest kernel, Firecracker",
		Long: `Get a guest kernel and install it in the state directory: the one --kernel-url
names, else the Firecracker project's, else Debian's cloud kernel. What is there
is left alone, unless --force is given; an interrupted download goes on.

Where KVM runs guests, get Firecracker and its jailer as well: the release that
this version of BandSox is made for, or the one --firecracker-url names, checked
against the checksum that lies beside it. Machines that run keep the program that
they were started with.

Debian's packages, also those of bandsox/base, come from where the host's apt
gets them. Where it gets none, BANDSOX_DEBIAN_MIRROR names the URL of a Debian
archive, and after a space that of its security archive. The Firecracker
project's kernels come from its public bucket, or a copy of it whose URL is in
BANDSOX_FIRECRACKER_URL.

A base file system and CNI plugins, which the Python BandSox wanted, are fetched
only when their URLs are given.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("init takes no arguments, not %q: did you mean --kernel-url %s?", args[0], args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.init(cmd, i) },
	}
	f := cmd.Flags()
	f.StringVar(&i.kernelURL, "kernel-url", "", "URL (http, https, file) or path of a vmlinux, a bzImage or a Debian kernel package")
	f.StringVar(&i.kernelSHA, "kernel-sha256", "", "its checksum")
	f.StringVar(&i.kernelOutput, "kernel-output", "", "copy the vmlinux here too")
	f.StringVar(&i.firecrackerURL, "firecracker-url", "", "URL (http, https, file) or path of a release's .tgz, or of a directory laid out as the releases are")
	f.StringVar(&i.firecrackerSHA, "firecracker-sha256", "", "its checksum")
	f.StringVar(&i.cniURL, "cni-url", "", "URL or path of a tar.gz of CNI plugins")
	f.StringVar(&i.cniDir, "cni-dir", "cni/bin", "directory to unpack them into")
	f.StringVar(&i.rootfsURL, "rootfs-url", "", "URL or path of a base file system")
	f.StringVar(&i.rootfsSHA, "rootfs-sha256", "", "its checksum")
	f.StringVar(&i.rootfsOutput, "rootfs-output", "storage/images/bandsox-base.ext4", "file to copy it to")
	f.BoolVar(&i.skipKernel, "skip-kernel", false, "get no kernel")
	f.BoolVar(&i.skipFirecracker, "skip-firecracker", false, "get no Firecracker")
	f.BoolVar(&i.skipCNI, "skip-cni", false, "get no CNI plugins")
	f.BoolVar(&i.skipRootfs, "skip-rootfs", false, "get no base file system")
	f.BoolVar(&i.force, "force", false, "replace what is there")
	jsonFlag(cmd, &i.asJSON, oneJSON)
	return cmd
}

func (a *app) init(cmd *cobra.Command, i initFlags) error {
	ctx := cmd.Context()
	var report func(what string, done, total int64)
	if !a.quiet {
		a.bars = newProgress(os.Stderr)
		report = a.bars.update
		defer a.bars.finish()
	}
	var r initResult
	say := func(format string, args ...any) {
		if !i.asJSON {
			fmt.Printf(format, args...)
		}
	}
	if !i.skipKernel {
		k, err := bandsox.Init(ctx, bandsox.InitOptions{Storage: a.storage, Kernel: i.kernelURL, KernelSHA256: i.kernelSHA,
			KernelOutput: i.kernelOutput, Force: i.force, Progress: report})
		a.bars.finish()
		if err != nil {
			return err
		}
		r.Kernel = &k
		say("Kernel %s from %s: %s\n", k.Version, k.Source, k.Path)
	} else {
		say("No kernel was got, for --skip-kernel was given.\n")
	}
	if !i.skipFirecracker {
		f, err := bandsox.InitFirecracker(ctx, bandsox.InitOptions{Storage: a.storage, Firecracker: i.firecrackerURL,
			FirecrackerSHA256: i.firecrackerSHA, Force: i.force, Progress: report})
		a.bars.finish()
		switch {
		case err == nil:
			r.Firecracker = &f
			say("Firecracker %s from %s: %s\n", f.Version, f.Source, f.Path)
		case i.firecrackerURL != "" || ctx.Err() != nil:
			return err
		default: // there is QEMU
			say("No Firecracker was got: %v\n", err)
		}
	}
	if !i.skipRootfs && i.rootfsURL != "" && !skip(say, "rootfs", i.rootfsOutput, i.force) {
		if err := bandsox.Fetch(ctx, i.rootfsURL, i.rootfsOutput, i.rootfsSHA, report); err != nil {
			return err
		}
		r.Rootfs = i.rootfsOutput
		say("Root file system: %s\n", i.rootfsOutput)
	}
	if !i.skipCNI && i.cniURL != "" && !skip(say, "CNI plugins", i.cniDir, i.force) {
		if err := bandsox.FetchTarball(ctx, i.cniURL, i.cniDir, report); err != nil {
			return err
		}
		r.CNI = i.cniDir
		say("CNI plugins: %s\n", i.cniDir)
	}
	if i.asJSON {
		return writeJSON(os.Stdout, r)
	}
	return nil
}

// skip says so when path is there: a file, or a directory that isn't empty.
func skip(say func(string, ...any), what, path string, force bool) bool {
	st, err := os.Stat(path)
	if err != nil || force {
		return false
	}
	if st.IsDir() {
		if entries, err := os.ReadDir(path); err != nil || len(entries) == 0 {
			return false
		}
	}
	say("Skipping %s: %s already exists (use --force to replace it)\n", what, path)
	return true
}
