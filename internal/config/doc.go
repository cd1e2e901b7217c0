// Package config reads salvor.yaml into typed structs, strictly, and explains
// every mistake in it at once.
//
// # The rules
//
//   - [Find] chooses the file, [Load] reads it, [Parse] is the pure core of
//     Load. What they return is complete: defaults filled in, paths absolute,
//     everything validated.
//   - An unknown key, a key given twice, an alias, a tag or a second document
//     is an error. A section without any key in it is as good as absent; a key
//     without a value is an error.
//   - Every problem carries file, line, column and the path of the key, and all
//     of them are reported together ([Error]).
//   - A relative path starts at the directory of the configuration file.
//   - A secret is only ever a reference ([Secret]): {file: …}, {env: …} or
//     {command: […]}. A value in its place is refused and not repeated in the
//     message. [Secret.Resolve] fetches the value when it is needed.
//
// # The environment
//
// Every key can be overridden by SALVOR_ and its path in capitals, with _ for
// every dot: SALVOR_BACKUP_WORKERS. An entry of a list is addressed by its
// name, capitals too, with _ for . and -: SALVOR_REPOSITORIES_LOCAL_URL. Names
// cannot be overridden in a list, nor can an entry be added. A secret's
// variable holds the secret itself (SALVOR_POSTGRES_PASSWORD), or, with _FILE
// at its end, the path of a file that does. An empty variable counts as unset.
//
// # One place for everything
//
// The structs in config.go are the only description of the file. Their tags
// give key (json), kind, default, allowed values (enum), bounds (min, max) and
// whether a key is required; the comments on their fields are what people read
// in the JSON Schema and in docs/reference/configuration.md. Both are made by
// this package's tests:
//
//	go test ./internal/config -run TestReference -update
package config
