package main

import (
	"github.com/spf13/cobra"

	"github.com/bandsox/bandsox"
	"github.com/bandsox/bandsox/client"
)

// completeSandboxes offers the names and ids that are there.
func (a *app) completeSandboxes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, func(m *client.Client) (words []string) {
		list, _ := m.List(cmd.Context(), bandsox.ListOptions{})
		for _, i := range list {
			if i.Name != "" {
				words = append(words, i.Name)
			}
			words = append(words, i.ID)
		}
		return words
	})
}

// completeImages offers the images of the local store.
func (a *app) completeImages(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.complete(cmd, func(m *client.Client) (words []string) {
		list, _ := m.Images(cmd.Context())
		for _, i := range list {
			words = append(words, i.Refs...)
		}
		return words
	})
}

func (a *app) complete(cmd *cobra.Command, words func(*client.Client) []string) ([]string, cobra.ShellCompDirective) {
	m, err := a.open(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer m.Close()
	return words(m), cobra.ShellCompDirectiveNoFileComp
}
