package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) saveCmd() *cobra.Command {
	var file string
	c := &cobra.Command{Use: "save SET", Short: "Save the document of a set this machine created, again",
		Long:    "Write the Backup Components Document of a set that this machine created, for\nwhen the first file was lost. It is the same document, ticket included.",
		Example: "  umbra save 77aa... --document set.umbra", Args: args(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, as []string) error {
			id, err := parseID(as[0])
			if err != nil {
				return err
			}
			doc, err := newPendingFile(file)
			if err != nil {
				return err
			}
			defer doc.discard()
			h := a.host()
			defer h.Close()
			xml, err := h.Document(cmd.Context(), id)
			if err != nil {
				return err
			}
			if err := doc.commit(xml); err != nil {
				return err
			}
			return a.emit(map[string]string{"set": id.String(), "document": file}, func(w io.Writer) { fmt.Fprintf(w, "Document of %s written to %s.\n", id, file) })
		}}
	c.Flags().StringVarP(&file, "document", "d", "", "file to write (required)")
	_ = c.MarkFlagRequired("document")
	return c
}
