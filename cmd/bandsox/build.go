package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

func newBuild(a *app) *cobra.Command {
	var o bandsox.BuildOptions
	var file string
	var buildArgs []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build [flags] DIR",
		Short: "Build an image of a Dockerfile",
		Long: `Build an image of a Dockerfile and bring it into the local store. DIR has the
files that it copies, but for what its .dockerignore names; - is a tar archive of
them on standard input.

A docker daemon does the work, that of $DOCKER_HOST or of this machine, in
containers: what RUN runs is not in a microVM. It is the daemon's classic builder,
without what only BuildKit knows. Where there is no daemon, build elsewhere, and

  docker save NAME | bandsox image load`,
		Example: `  bandsox build -t app .
  bandsox build -t app -f docker/Dockerfile.test --build-arg VERSION=3 .
  echo 'FROM alpine' | bandsox build -t plain -f - .
  git archive HEAD | bandsox build -t app -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Args = map[string]string{}
			for _, arg := range buildArgs {
				if setEnv(o.Args, arg) != nil {
					return usageError("--build-arg %q: must be KEY=VALUE or KEY", arg)
				}
			}
			closeFile, err := buildFiles(&o, args[0], file)
			if err != nil {
				return err
			}
			defer closeFile()
			if !a.quiet {
				o.Log = os.Stderr
			}
			return a.with(cmd.Context(), func(m *client.Client) error {
				img, err := m.Build(a.shown(cmd.Context()), o)
				if err != nil {
					return err
				}
				a.bars.finish()
				if asJSON {
					return writeJSON(os.Stdout, img)
				}
				name := o.Tag
				if name == "" {
					name = "Image"
				}
				fmt.Printf("%s %s (%s)\n", name, img.Digest, bytesText(img.BaseBytes))
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Tag, "tag", "t", "", "the image's name (default none: it goes by its digest)")
	f.StringVarP(&file, "file", "f", "", "the Dockerfile, wherever it is, or - for standard input; in an archive, its path there (default DIR/Dockerfile)")
	f.StringArrayVar(&buildArgs, "build-arg", nil, "KEY=VALUE for an ARG, or KEY to pass this one on; repeatable")
	f.StringVar(&o.Target, "target", "", "stage to build (default the last)")
	f.BoolVar(&o.NoCache, "no-cache", false, "do every step anew")
	f.BoolVar(&o.Pull, "pull", false, "look for newer base images")
	jsonFlag(cmd, &asJSON, oneJSON)
	return cmd
}

// buildFiles finds a build's files and its Dockerfile, which its caller closes.
func buildFiles(o *bandsox.BuildOptions, dir, file string) (func(), error) {
	none := func() {}
	switch {
	case dir == "-" && file == "-":
		return none, usageError("-f -: standard input has the files")
	case dir == "-":
		o.Context, o.File = os.Stdin, file
		return none, nil
	}
	o.Dir = dir
	switch file {
	case "":
		return none, nil
	case "-":
		o.Dockerfile = os.Stdin
		return none, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return none, usageError("-f %s: %w", file, err)
	}
	o.Dockerfile = f
	return func() { f.Close() }, nil
}
