package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
)

func newDoctor(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine can do, what it lacks, and what to type", Args: cobra.NoArgs,
		Long: "Say what this machine can do, what it lacks, why it matters and what to type.\nThe exit code is 1 when no driver can run a sandbox here.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := bandsox.Doctor(cmd.Context(), bandsox.DoctorOptions{Storage: a.storage})
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(os.Stdout, r)
			} else {
				err = r.WriteText(os.Stdout)
			}
			if err == nil && !r.OK {
				return exitCode(1)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
