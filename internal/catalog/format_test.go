package catalog_test

// This file restores a repository by docs/format/README.md alone: none of Salvor's
// own code is used, nor may it be. What is not in the standard library is a codec, a
// hash, or age.

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
)

var le = binary.LittleEndian

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

func derive(secret []byte, info string) []byte {
	return must(hkdf.Key(sha256.New, secret, nil, info, 32))
}

func gcm(key []byte) cipher.AEAD { return must(cipher.NewGCM(must(aes.NewCipher(key)))) }

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(bytes.Join(parts, nil))
	return h.Sum(nil)
}

func keyedBlake3(key []byte, parts ...[]byte) []byte {
	h := must(blake3.NewKeyed(key))
	h.Write(bytes.Join(parts, nil))
	return h.Sum(nil)
}

// repository is one in a directory.
type repository struct {
	dir     string
	masters map[string][]byte // nil without encryption
}

func (r repository) raw(name string) []byte { return must(os.ReadFile(filepath.Join(r.dir, name))) }

func parseJSON(b []byte) (v map[string]any) {
	check(json.Unmarshal(b, &v) == nil, "not JSON: %q", b)
	return v
}

// openRepository reads salvor.json and, with an age identity, the newest keys.
func openRepository(dir, identity string) repository {
	r := repository{dir: dir}
	about := parseJSON(r.raw("salvor.json"))
	check(about["format_version"] == 1.0, "another version")
	body, _, _ := strings.Cut(string(r.raw("salvor.json")), "  \"sha256\"")
	check(about["sha256"] == fmt.Sprintf("%x", sha256.Sum256([]byte(body))), "salvor.json was changed")
	if about["encryption"] == "none" {
		return r
	}
	names := must(os.ReadDir(filepath.Join(dir, "keys")))
	lines := bytes.Split(r.raw("keys/"+names[len(names)-1].Name()), []byte("\n"))
	var doc struct {
		Slots []struct {
			ID, Kind     string
			Wrapped, MAC []byte
		}
	}
	check(json.Unmarshal(lines[0], &doc) == nil, "keys are not JSON")
	for _, s := range doc.Slots {
		slotMAC := mac(derive([]byte(identity), "salvor 1 age slot mac"), must(hex.DecodeString(s.ID)), s.Wrapped)
		if s.Kind != "age" || !hmac.Equal(slotMAC, s.MAC) {
			continue
		}
		plain := must(age.Decrypt(bytes.NewReader(s.Wrapped), must(age.ParseX25519Identity(identity))))
		var bundle struct {
			Current string
			Masters []struct {
				ID  string
				Key []byte
			}
		}
		check(json.Unmarshal(must(io.ReadAll(plain)), &bundle) == nil, "the bundle is not JSON")
		r.masters = map[string][]byte{}
		for _, m := range bundle.Masters {
			r.masters[m.ID] = m.Key
		}
		length := binary.BigEndian.AppendUint64(nil, uint64(len(r.raw("salvor.json"))))
		sum := mac(derive(r.masters[bundle.Current], "salvor 1 keys mac"), length, r.raw("salvor.json"), lines[0])
		check(hex.EncodeToString(sum) == string(lines[1]), "the keys were changed")
		return r
	}
	panic("no slot opens")
}

// object is a sealed object, and how its frames open.
type object struct {
	name   string
	data   []byte
	digest [32]byte
	unseal func(nonce, sealed, extra []byte) []byte
}

func (r repository) open(name string, kind byte) object {
	b := r.raw(name)
	o := object{name: name, data: b, digest: blake3.Sum256(b[:112])}
	check(string(b[:8]) == "\x89SALVOR\n" && le.Uint16(b[8:]) == 1 && b[10] == kind && le.Uint32(b[12:]) == 112, "%s: not a header", name)
	check(le.Uint32(b[108:]) == crc32.Checksum(b[:108], crc32.MakeTable(crc32.Castagnoli)), "%s: header damaged", name)
	check((b[11] == 1) == (r.masters != nil), "%s: sealed in another way", name)
	if b[11] == 1 {
		wrap := gcm(derive(r.masters[hex.EncodeToString(b[32:48])], "salvor 1 object key "+hex.EncodeToString(b[16:32])))
		own := gcm(must(wrap.Open(nil, b[48:60], b[60:108], append(bytes.Clone(b[:48]), name...))))
		o.unseal = func(nonce, sealed, extra []byte) []byte { return must(own.Open(nil, nonce, sealed, extra)) }
		return o
	}
	key := blake3.Sum256(append(bytes.Clone(b[:48]), name...))
	o.unseal = func(nonce, sealed, extra []byte) []byte {
		payload, tag := sealed[:len(sealed)-16], sealed[len(sealed)-16:]
		check(bytes.Equal(keyedBlake3(key[:], nonce, extra, payload)[:16], tag), "%s: wrong tag", name)
		return payload
	}
	return o
}

// frame opens the frame at an offset, and gives where the next one is.
func (o object) frame(at uint64) (plain []byte, ordinal uint32, last bool, next uint64) {
	h := o.data[at : at+16]
	ordinal, next = le.Uint32(h), at+16+uint64(le.Uint32(h[4:]))
	nonce := binary.BigEndian.AppendUint32(make([]byte, 8), ordinal)
	payload := o.unseal(nonce, o.data[at+16:next], append(bytes.Clone(o.data[16:32]), h...))
	switch h[12] {
	case 0:
		plain = payload
	case 1:
		plain = must(must(zstd.NewReader(nil)).DecodeAll(payload, nil))
	case 2:
		plain = must(snappy.Decode(nil, payload))
	}
	check(uint32(len(plain)) == le.Uint32(h[8:]) && h[13] < 2 && h[14] == 0 && h[15] == 0, "%s: a wrong frame", o.name)
	return plain, ordinal, h[13] == 1, next
}

// frames opens all frames; the last is apart.
func (o object) frames() (frames [][]byte, last []byte) {
	for at := uint64(112); ; {
		plain, ordinal, end, next := o.frame(at)
		check(int(ordinal) == len(frames), "%s: frames out of order", o.name)
		if end {
			t := o.data[next:]
			check(len(t) == 16 && le.Uint64(t) == at && string(t[8:]) == "SALVEND\n", "%s: a wrong trailer", o.name)
			return frames, plain
		}
		frames, at = append(frames, plain), next
	}
}

// fields takes values off the front of bytes.
type fields struct{ b []byte }

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	f.b = f.b[n:]
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	f.b = f.b[n:]
	return v
}

func (f *fields) bytes(n uint64) []byte {
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) string() []byte { return f.bytes(f.uvarint()) }

// backup is a backup's packs, by identifier.
type backup struct {
	repository
	place string
	packs map[string]object
}

func (r repository) backup(place, id string) (b backup, head map[string]any, files object) {
	b = backup{r, place, map[string]object{}}
	_, text := r.open(place+"backups/"+id+"/head", 4).frames()
	head = parseJSON(text)
	files = r.open(place+"backups/"+id+"/files", 5)
	list := r.open(place+"backups/"+id+"/packs", 6)
	check(hex.EncodeToString(files.digest[:]) == head["files_header"] && hex.EncodeToString(list.digest[:]) == head["packs_header"], "another list")
	_, lines := list.frames()
	for ; len(lines) > 0; lines = lines[76:] {
		id := hex.EncodeToString(lines[:16])
		p := r.open(place+"packs/"+id, 1)
		check(uint64(len(p.data)) == le.Uint64(lines[16:]) && bytes.Equal(p.digest[:], lines[24:56]), "another pack")
		checkFooter(p, le.Uint32(lines[56:]))
		b.packs[id] = p
	}
	return b, head, files
}

func checkFooter(p object, chunks uint32) {
	frames, footer := p.frames()
	f := fields{footer}
	check(f.bytes(1)[0] == 1 && f.uvarint() == uint64(len(frames)) && len(frames) == int(chunks), "%s: a wrong footer", p.name)
	at := uint64(112)
	for _, plain := range frames {
		_, _, _, next := p.frame(at)
		check(f.uvarint() == next-at && f.uvarint() == uint64(len(plain)), "%s: a chunk of another length", p.name)
		at = next
		for block := f.uvarint(); len(plain) > 0; plain = plain[min(block, uint64(len(plain))):] {
			check(le.Uint64(f.bytes(8)) == xxh3.Hash(plain[:min(block, uint64(len(plain)))]), "%s: a wrong hash", p.name)
		}
	}
	check(len(f.b) == 0, "%s: more in the footer", p.name)
}

func (b backup) chunk(pack []byte, ordinal, offset, stored, plain uint64) []byte {
	data, n, last, next := b.packs[hex.EncodeToString(pack)].frame(offset)
	check(uint64(n) == ordinal && !last && next == offset+stored && uint64(len(data)) == plain, "a reference to another frame")
	return data
}

// file reads the rest of a file's entry and gives the content.
func (b backup) file(f *fields) []byte {
	size, block := f.uvarint(), f.uvarint()
	f.bytes(1) // flags
	digest, fileMap := f.bytes(16), f.string()
	for range f.uvarint() {
		fileMap = append(bytes.Clone(fileMap), b.chunk(f.bytes(16), f.uvarint(), f.uvarint(), f.uvarint(), f.uvarint())...)
	}
	data := make([]byte, size)
	if size > 0 {
		b.fill(data, block, &fields{fileMap})
	}
	sum := new(big.Int)
	for n := uint64(0); n*block < size; n++ {
		hash := xxh3.Hash(data[n*block : min((n+1)*block, size)])
		term := xxh3.Hash128(le.AppendUint64(le.AppendUint64(nil, n), hash)).Bytes()
		sum.Add(sum, new(big.Int).SetBytes(term[:]))
	}
	sum.And(sum, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	check(bytes.Equal(sum.FillBytes(make([]byte, 16)), digest), "another digest")
	return data
}

// fill copies the blocks of a map into a file of zeros.
func (b backup) fill(data []byte, block uint64, m *fields) {
	check(m.bytes(1)[0] == 1 && m.uvarint() == block, "another map")
	type reference struct{ ordinal, offset, stored, plain uint64 }
	type pack struct {
		id        []byte
		chunks    []reference
		last, end uint64 // chunk and end of the last run
	}
	packs := make([]pack, m.uvarint())
	for i := range packs {
		packs[i] = pack{id: m.bytes(16), chunks: make([]reference, m.uvarint())}
		var want reference
		for k := range packs[i].chunks {
			c := reference{want.ordinal + uint64(m.varint()), want.offset + uint64(m.varint()), m.uvarint(), want.plain + uint64(m.varint())}
			packs[i].chunks[k] = c
			want = reference{ordinal: c.ordinal + 1, offset: c.offset + c.stored, plain: c.plain}
		}
	}
	lengths := make([]uint64, m.uvarint())
	for i := range lengths {
		lengths[i] = m.uvarint()
	}
	of, steps := fields{m.bytes(m.uvarint())}, fields{m.bytes(m.uvarint())}
	first := uint64(0)
	for _, n := range lengths {
		blocks := n / 2
		if n&1 == 1 {
			p := &packs[of.uvarint()]
			step := uint64(steps.varint())
			if step != 0 {
				p.last, p.end = p.last+step, 0
			}
			c, slot := p.chunks[p.last], p.end+uint64(m.varint())
			chunk := b.chunk(p.id, c.ordinal, c.offset, c.stored, c.plain)
			copy(data[first*block:], chunk[slot*block:min((slot+blocks)*block, c.plain)])
			p.end = slot + blocks
		}
		first += blocks
	}
	check(len(of.b) == 0 && len(steps.b) == 0, "a list of another length")
	check(len(m.b) == 0 && first == (uint64(len(data))+block-1)/block, "a map of another length")
}

// restore gives the files of a backup, and the other entries as text.
func (r repository) restore(place, id string) (files map[string][]byte, others []string) {
	b, _, table := r.backup(place, id)
	frames, last := table.frames()
	count := (&fields{last}).uvarint()
	files = map[string][]byte{}
	for f := (fields{bytes.Join(frames, nil)}); len(f.b) > 0; count-- {
		e := fields{f.string()}
		kind, path, mode := e.bytes(1)[0], string(e.string()), e.uvarint()
		e.varint() // modification time
		switch kind {
		case 1:
			others = append(others, fmt.Sprintf("%s %o", path, mode))
		case 2:
			files[path] = b.file(&e)
		case 3:
			others = append(others, fmt.Sprintf("%s %o -> %s", path, mode, e.string()))
		}
		check(len(e.b) == 0, "%q: a longer entry", path)
	}
	check(count == 0, "another number of entries")
	return files, others
}

func (r repository) wal(name string) (data []byte, index, changes *fields) {
	frames, last := r.open(name, 2).frames()
	n := le.Uint32(last)
	doc := parseJSON(last[4 : 4+n])
	data = bytes.Join(frames, nil)
	sum := blake3.Sum256(data)
	check(doc["size_bytes"] == float64(len(data)) && doc["blake3"] == hex.EncodeToString(sum[:]), "%s: other bytes", name)
	rest := last[4+n:]
	summary := 0.0
	if v, ok := doc["changes_bytes"]; ok {
		summary = v.(float64)
	}
	end := len(rest) - int(summary)
	return data, &fields{rest[:end]}, &fields{rest[end:]}
}

// firstCommit reads an index up to its first event, as walrec's doc.go says.
func firstCommit(x *fields) (lsn, xid uint64, micros int64) {
	x.bytes(1 + 1 + 2 + 2 + 1 + 1 + 8)
	for range 4 {
		x.uvarint()
	}
	from := x.uvarint()
	x.uvarint()
	check(bytes.Equal(x.bytes(2), []byte{0, 0}), "fragments")
	check(x.uvarint() > 0 && x.bytes(1)[0]&15 == 1, "no commit")
	lsn = from + 8*x.uvarint()
	micros = x.varint()
	return lsn, uint64(x.varint()), micros
}

// changedBlocks reads a summary of blocks that are listed as runs, as wal/summary's
// doc.go says, and gives the forks as text.
func changedBlocks(x *fields) (from, to uint64, forks []string) {
	check(bytes.Equal(x.bytes(2), []byte{1, 0}) && x.uvarint() == 1, "a summary of another version, flag or timeline")
	from = x.uvarint()
	to = from + x.uvarint()
	check(bytes.Equal(x.bytes(5), make([]byte, 5)), "fragments, reasons, tablespaces or databases")
	var tablespace, database, number uint64
	for range x.uvarint() {
		tag := x.bytes(1)[0]
		if tag&1 == 0 {
			tablespace, database, number = x.uvarint(), x.uvarint(), 0
		}
		number += x.uvarint()
		text := fmt.Sprintf("%d/%d/%d fork %d", tablespace, database, number, tag>>1)
		if limit := x.uvarint(); limit > 0 {
			text += fmt.Sprintf(" from %d on", limit-1)
		}
		key := uint64(0)
		for range x.uvarint() {
			key += x.uvarint()
			at := key << 16
			for range x.uvarint() {
				at += x.uvarint()
				n := x.uvarint() + 1
				text += fmt.Sprintf(" %d+%d", at, n)
				at += n
			}
			key++
		}
		forks = append(forks, text)
	}
	check(len(x.b) == 0, "more in the summary")
	return from, to, forks
}

// A stranger with the format's page restores what was backed up.
func TestFormat(t *testing.T) {
	lines := strings.Fields(string(must(os.ReadFile("testdata/repository-v1.key"))))
	identity := lines[len(lines)-1]
	const place = "clusters/orders/7301234567890123456-0123456789abcdef/"
	for _, encryption := range []string{"encrypted", "plain"} {
		t.Run(encryption, func(t *testing.T) {
			r := openRepository("testdata/repository-v1-"+encryption, identity)
			files, others := r.restore(place, "20261124T060000Z-000001")
			wal, index, changes := r.wal(place + "wal/00000001/000000010000000000000001")
			files["pg_wal/000000010000000000000001"] = wal
			n := 0
			for _, line := range strings.Split(strings.TrimSpace(string(must(os.ReadFile("testdata/repository-v1.sums")))), "\n") {
				var want [2]string
				check(json.Unmarshal([]byte(line), &want) == nil, "sums")
				n++
				if data, ok := files[want[0]]; !ok || fmt.Sprintf("%x", blake3.Sum256(data)) != want[1] {
					t.Errorf("%q has other content, or is missing", want[0])
				}
			}
			if n != len(files) {
				t.Errorf("%d files instead of %d", len(files), n)
			}
			if got := strings.Join(others, ", "); got != ". 700, base 700, base/1 700, global 700, pg_tblspc 700, pg_tblspc/16400 700 -> /mnt/fast, "+
				"pg_tblspc/16400/PG_15_202209061 700, pg_tblspc/16400/PG_15_202209061/5 700" {
				t.Error(got)
			}
			_, history := r.open(place+"wal/00000002/00000002.history", 3).frames()
			if string(history) != "1\t0/109000\tno recovery target specified\n" {
				t.Errorf("%q", history)
			}
			if lsn, xid, micros := firstCommit(index); lsn != 0x108800 || xid != 700 || micros != (1795500180-946684800)*1_000_000 {
				t.Errorf("a commit of %d at %x, %d", xid, lsn, micros)
			}
			if from, to, forks := changedBlocks(changes); from != 0x100000 || to != 0x200000 ||
				strings.Join(forks, ", ") != "1663/5/16384 fork 0 from 0 on, 1663/5/16385 fork 0 3+2 70000+1" {
				t.Errorf("from %x to %x: %q", from, to, forks)
			}
			_, head := r.open(place+"backups/20261124T060000Z-000001/head", 4).frames()
			checkDocumented(t, parseJSON(head))
		})
	}
}

// Every field of a head stands in the format's page.
func checkDocumented(t *testing.T, head map[string]any) {
	page := string(must(os.ReadFile("../../docs/format/README.md")))
	for name := range head {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/format/README.md does not tell of a head's %s", name)
		}
	}
}

// The examples in the format's page are right.
func TestFormatExamples(t *testing.T) {
	page := string(must(os.ReadFile("../../docs/format/README.md")))
	block := func(kind string) []byte {
		m := regexp.MustCompile("(?s)```" + kind + "\n(.*?)```").FindStringSubmatch(page)
		check(m != nil, "no example of %s", kind)
		return must(hex.DecodeString(strings.Join(strings.Fields(m[1]), "")))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "example"), block("hex"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := repository{dir: dir}.open("example", 4)
	if frames, last := o.frames(); len(frames) != 0 || string(last) != "hello" || len(o.data) != 165 {
		t.Errorf("%q, %q", frames, last)
	}
	if id := hex.EncodeToString(o.data[16:32]); id != "000102030405060708090a0b0c0d0e0f" {
		t.Errorf("the identity is %s", id)
	}
	master := make([]byte, 32)
	for i := range master {
		master[i] = byte(i)
	}
	if got := derive(master, "salvor 1 object key 000102030405060708090a0b0c0d0e0f"); !bytes.Equal(got, block("hkdf")) {
		t.Errorf("the wrapping key is %x", got)
	}
}

// What is changed in a repository is seen also by this reader.
func TestFormatDamage(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/repository-v1-plain")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "clusters/orders/7301234567890123456-0123456789abcdef/backups/20261124T060000Z-000001/head")
	b := must(os.ReadFile(name))
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := recover(); !strings.Contains(cmp.Or(fmt.Sprint(r), "nothing"), "wrong tag") {
			t.Errorf("the damage was seen as %v", r)
		}
	}()
	openRepository(dir, "").restore("clusters/orders/7301234567890123456-0123456789abcdef/", "20261124T060000Z-000001")
}
