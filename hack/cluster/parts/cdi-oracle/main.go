// Reads CDI specs (files, or directories of *.json) with the Go reference library and names each one that it refuses.
// The exit code is 1 if there is one, or if there was nothing to read: a check that looked at nothing has shown
// nothing. The library's JSON schema is a module of its own and looser than the loader; it is not used here.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

func main() {
	var specs []string
	for _, argument := range os.Args[1:] {
		found, err := specsAt(argument)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		specs = append(specs, found...)
	}
	refused := 0
	for _, path := range specs {
		if _, err := cdi.ReadSpec(path, 0); err != nil {
			refused++
			fmt.Printf("%s: %v\n", path, err)
		}
	}
	fmt.Printf("%d specs accepted, %d refused by the Go reference\n", len(specs)-refused, refused)
	if refused > 0 || len(specs) == 0 {
		os.Exit(1)
	}
}

// specsAt returns the file itself, or the *.json directly inside the directory, in the order of their names.
func specsAt(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	return filepath.Glob(filepath.Join(path, "*.json"))
}
