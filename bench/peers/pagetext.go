//go:build linux

package main

// pageTop comes before the numbers.
const pageTop = `# Benchmark

<!-- Made by ` + "`make bench-peers PAGE=docs/reference/benchmark.md`" + `. The text is in bench/peers/pagetext.go. -->

Salvor beside other backup tools, on the same running cluster, in one run, on one
machine. Quote ratios, not seconds: another machine has other seconds, and this one may have been
busy with other work, as its load average below tells.

## How it is measured

- The cluster holds pgbench's tables and those of ` + "`examples/swifteats`" + `, with data checksums. No
  client works while a tool is measured. Repository and database are on the same disk, and what is
  read is in the page cache.
- **Like with like.** zstd stands against zst level 3, S2 against lz4 level 1; Salvor seals with
  AES-256-GCM, pgBackRest encrypts with AES-256-CBC (without authentication), pg_basebackup does not
  encrypt. Salvor and pgBackRest check page checksums. Each tool has the same number of workers.
- **Repeats are interleaved**: each tool once, then each again in the opposite order. Figures are
  medians; a ratio is the median of the ratios within a repeat.
- **Processor time** is user and system time of the tool and everything it started, also of what went
  into the background. Server CPU is that of the PostgreSQL server meanwhile: it archives, and for
  pg_basebackup it reads and compresses.
- **Memory** is that of the largest process (the least that can be told apart is 10 MB), and the
  largest sum over all processes of the tool, with shared pages counted once, sampled.
- **Waits are excluded** from the wall time: what is waited for a checkpoint or for WAL to be archived.
  A checkpoint is made just before, and a fast one asked for; the rest is observed in
  ` + "`pg_stat_activity`" + ` and subtracted. pgBackRest runs with ` + "`archive-check=n`" + `; Salvor always waits until its WAL
  is safe, and what the server took to archive the last segment is subtracted.
- **Stored** is the size of the backup in the repository without WAL; pg_basebackup's has its WAL inside.
- **Incremental backups** are made by all tools of the same cluster after each round of pgbench's
  transactions, in turns, backwards every other round. *Pages changed* are counted by hashing every page of the
  cluster before and after; *bound* is what they take when just they are compressed, in chunks of
  256 KiB, with Salvor's codec of that kind. *Pages read* is the tool's own account; *read MB* has also what it reads of
  its repository. In this step WAL is archived by Salvor, and for all others
  by one cp that they share. That WAL tells what changed costs Salvor time when it archives, which is in the
  figures of WAL push.
- **Verify** is ` + "`salvor verify --level data`" + `: everything decrypted, decoded and hashed, each page's checksum
  compared, each file's blocks summed up, each WAL record parsed. pgBackRest's ` + "`verify`" + `, by what it reads and costs,
  compares stored bytes with their checksums and does not decode them; MB/s count the database all the same.
- **Everything is checked**: each tool's first restore is started, recovers with the tool's own
  restore command, and is compared with the original row by row; fetched WAL is compared byte by byte.
- ` + "`sync s`" + ` is how long a sync of the file system took right after a restore: what the tool left to the
  kernel. Salvor and pgBackRest make what they restore durable; tar and WAL-G do not.

## Results
`

// What is said above the tables that are not of one step.
const (
	textBeside = "Each column is the figure for the last incremental backup, divided by that for a full of the same\n" +
		"moment by the same tool (medians)."
	textChain = "Salvor with zstd alone: after each round an incremental backup, and then all but the last seven backups are\n" +
		"deleted. *Forwarded* is what had not changed and was stored anew, before compression, so that packs with little\n" +
		"left in them can go; it is granted in *stored / bound*, and left out of *pages read / changed*. The last row is what a\n" +
		"full backup of the same moment takes: the least that a repository can hold of it."
	textSizes = "pgbench alone, each once; incremental backups are medians of three, of the same number of transactions at each size."
)

// pageRelations comes before the list of losses: what was measured by hand.
const pageRelations = `## Many relations

100,000 relations in four databases: 50,000 tables of 20 rows, each with a primary key; 102,155 files,
1.49 GB. PostgreSQL 15, Salvor with zstd and two workers, measured 2026-11-24 by ` + "`/usr/bin/time -v`" + `, each
once, on the machine below while it was busy with other work (load 6 to 8). Not part of ` + "`make bench-peers`" + `.

| step | wall s | user CPU s | kernel CPU s | peak memory MB | read MB | stored MB |
|---|---|---|---|---|---|---|
| full backup | 19.7 | 4.65 | 4.05 | 69 | 1493 | 58.8 |
| incremental by WAL, 125 tables changed | 4.1 | 1.35 | 0.82 | 90 | 10.8 | 3.3 |
| incremental by hash | 11.6 | 3.25 | 3.44 | 91 | 1493 | 3.1 |
| ` + "`backups list`" + ` | 0.05 | 0.02 | 0.02 | 15 | | |
| restore | 10.4 | 3.27 | 3.85 | 35 | 53.9 | 1493 |

The full backup is a few dozen objects, not 100,000. The floor of an incremental backup is its file table: one entry for each
file, 3 MB here, is written anew.

`

// pageTrial comes after it: what was measured by hand, too.
const pageTrial = `## Verification at level restore

` + "`" + `salvor verify --level restore` + "`" + ` beside the same done by hand: ` + "`" + `salvor restore --start` + "`" + `, then ` + "`" + `pg_amcheck --heapallindexed --parent-check` + "`" + `, ` + "`" + `pg_dump` + "`" + ` of each database to nothing, ` + "`" + `pg_ctl stop` + "`" + `, and ` + "`" + `pg_checksums` + "`" + `. A pgbench database of 450 MB (scale 30) with 40,000 transactions of WAL to replay, PostgreSQL 15; three rounds in turn, on a machine that was busy with other work, so that only the ratio of the sums says something.

| | by hand, s | verify, s |
|---|---|---|
| restored and recovered | 24.4, 26.4, 19.6 | 20.1, 22.4, 10.9 |
| ` + "`" + `amcheck` + "`" + ` | 8.9, 20.5, 9.6 | 12.4, 12.8, 6.1 |
| ` + "`" + `pg_dump` + "`" + ` | 5.3, 13.1, 5.3 | 10.6, 6.6, 4.8 |
| checksums, stopping, starting again | 1.6, 3.5, 2.1 | 4.9, 4.2, 2.5 |
| all | 40.3, 63.5, 36.5 | 48.0, 46.4, 24.4 |

The sums are 140 s by hand and 119 s by verify (0.85): it costs what its parts do. Beside the restore alone (70 s) it is 1.7 times as long; what is added is the reading of all rows, twice, and of all indexes. With ` + "`" + `verify.dump: schema` + "`" + ` it is less.

`

// pageLosses comes after the list of losses.
const pageLosses = `Beyond the numbers: pgBackRest archives asynchronously with several workers at once, which hides
slow storage; Salvor's push is one segment a command.

An incremental backup reads the free space and visibility maps of all relations whether they changed or not,
as the WAL does not tell of all their changes: three pages for each small table, 5 MB for the catalogs of four databases. Where
little changes, that is most of what is read. In a chain without deletion it may at any time store
anew, once, what is left of packs that are mostly dead; in the round in which that happens, it stores several times what changed.
And a file's map grows with the places in which it changed, which costs memory and processor time in each
backup after. A restore of the last of many incrementals reads a quarter to a third more than that of a full: chunks
in which only some blocks are live are fetched and decoded all the same.

The runs of incremental backups of 2026-11-24 were made while other work kept the two cores at a load of 8 to 21. That
stretches wall times, and processor time too; ratios within a round suffer less.

See [Beside pgBackRest and WAL-G](../explanation/comparison.md).
`

// pageEnd comes last.
const pageEnd = `
## Measure it yourself

` + "```sh" + `
make bench-peers                                   # about ten minutes, 10 GB of disk
make bench-peers SCALE=20 ORDERS=50000 WAL_MB=128  # a trial
make bench-peers WALG=/path/to/wal-g SIZES=1,2,4   # with WAL-G, and cost by size
make bench-peers PGBACKREST=2.45=/usr/bin/pgbackrest,2.59=/path/to/pgbackrest STEPS=incr
make bench-peers STEPS=chain CHAIN_ROUNDS=100      # a long chain of incrementals, Salvor alone
` + "```" + `

It needs a PostgreSQL (` + "`PG_BIN`" + `, 15 or later for pg_basebackup's codecs), and for the peers pgBackRest, ` + "`zstd`" + `, ` + "`lz4`" + ` and
` + "`tar`" + `; a tool that is missing is left out, by name. As root, servers and tools run as ` + "`postgres`" + `.
Results go to ` + "`dist/bench-peers.jsonl`" + `, one JSON object a line; ` + "`go run ./bench/peers -h`" + ` lists all options.
`
