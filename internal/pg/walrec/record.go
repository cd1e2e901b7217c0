package walrec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/salvor-dr/salvor/internal/pg"
)

// recordHeaderSize is SizeOfXLogRecord (xlogrecord.h): length 0:4, xid 4:8,
// previous record 8:16, info 16, resource manager 17, padding, CRC 20:24.
const recordHeaderSize = 24

// maxRecordSize is above what any version writes: XLogRecordMaxSize is 1020
// MiB from 16 on, before that palloc's limit of 1 GiB held.
const maxRecordSize = 1 << 30

// align8 rounds up to the next multiple of eight, as records start on those
// (MAXALIGN).
func align8(n int) int { return (n + 7) &^ 7 }

// checkRecordHeader does what ValidXLogRecordHeader (xlogreader.c) does. When
// the previous record is not known, it can only have begun earlier.
func checkRecordHeader(h []byte, lsn, prev pg.LSN, prevKnown bool, major int) error {
	le := binary.LittleEndian
	total, link, rmgr := le.Uint32(h), pg.LSN(le.Uint64(h[8:])), h[17]
	switch {
	case total < recordHeaderSize || total > maxRecordSize:
		return fmt.Errorf("%w: impossible length %d", ErrRecord, total)
	case rmgr > rmgrMaxBuiltin && (rmgr < rmgrMinCustom || major < 15):
		return fmt.Errorf("%w: impossible resource manager %d", ErrRecord, rmgr)
	case prevKnown && link != prev:
		return fmt.Errorf("%w: it follows %s, but the record before is at %s", ErrRecord, link, prev)
	case link >= lsn:
		return fmt.Errorf("%w: it follows %s, which is not before it", ErrRecord, link)
	}
	return nil
}

// What may stand between a record's header and its data (xlogrecord.h).
const (
	idMaxBlock    = 32
	idTopLevelXID = 252
	idOrigin      = 253
	idDataLong    = 254
	idDataShort   = 255

	blockFork     = 0x0F
	blockHasImage = 0x10
	blockWillInit = 0x40
	blockSameRel  = 0x80

	imageHasHole       = 0x01
	imageCompressed14  = 0x02 // BKPIMAGE_IS_COMPRESSED; from 15 on the bit means "apply"
	imageCompressed15  = 0x1C // BKPIMAGE_COMPRESS_PGLZ, _LZ4, _ZSTD
	relFileLocatorSize = 12
)

var (
	errCut     = errors.New("cut before its main data")
	errLengths = errors.New("lengths of its parts do not add up")
	errBlocks  = errors.New("block references out of order")
)

// recordParts finds the main data of a record of which rec are the first bytes:
// it passes over the headers of block references, which it appends to refs unless
// that is nil, and the block data. It returns the part of the main data within
// rec, and the size of the whole. The walk is that of DecodeXLogRecord
// (xlogreader.c).
func recordParts(major int, rec []byte, refs *[]BlockRef) (data []byte, size int, err error) {
	if len(rec) < recordHeaderSize {
		return nil, 0, errCut
	}
	total := int(binary.LittleEndian.Uint32(rec))
	off, blocks, last := recordHeaderSize, 0, false
	for !last && off+blocks+size < total {
		if off >= len(rec) {
			return nil, 0, errCut
		}
		h := rec[off:]
		switch id := h[0]; {
		case id == idDataShort && len(h) >= 2:
			size, last = int(h[1]), true
			off += 2
		case id == idDataLong && len(h) >= 5:
			n := binary.LittleEndian.Uint32(h[1:])
			if n > math.MaxInt32 {
				return nil, 0, errLengths
			}
			size, last = int(n), true
			off += 5
		case id == idOrigin:
			off += 3
		case id == idTopLevelXID:
			off += 5
		case id <= idMaxBlock:
			head, body, ok := blockReference(major, h)
			if !ok {
				return nil, 0, errCut
			}
			if refs != nil {
				if head > len(h) {
					return nil, 0, errCut
				}
				if err := appendRef(refs, h[:head]); err != nil {
					return nil, 0, err
				}
			}
			off += head
			blocks += body
		case id >= idDataLong:
			return nil, 0, errCut
		default:
			return nil, 0, fmt.Errorf("unknown part %d at byte %d", id, off)
		}
		if off > len(rec) {
			return nil, 0, errCut
		}
	}
	if off+blocks+size != total {
		return nil, 0, errLengths
	}
	from := min(off+blocks, len(rec))
	return rec[from:min(from+size, len(rec))], size, nil
}

// blockReference gives the size of the block reference header at the beginning
// of h, and of the data and page image that belong to it.
func blockReference(major int, h []byte) (head, body int, ok bool) {
	if len(h) < 4 {
		return 0, 0, false
	}
	flags := h[1]
	head, body = 4, int(binary.LittleEndian.Uint16(h[2:]))
	if flags&blockHasImage != 0 {
		if len(h) < head+5 {
			return 0, 0, false
		}
		image := h[head:]
		body += int(binary.LittleEndian.Uint16(image))
		compressed := byte(imageCompressed15)
		if major < 15 {
			compressed = imageCompressed14
		}
		if image[4]&compressed != 0 && image[4]&imageHasHole != 0 {
			head += 2
		}
		head += 5
	}
	if flags&blockSameRel == 0 {
		head += relFileLocatorSize
	}
	return head + 4, body, true // the block number ends it
}

// appendRef reads the block reference header h, of which blockReference gave the
// size. The relation may be that of the reference before.
func appendRef(refs *[]BlockRef, h []byte) error {
	le := binary.LittleEndian
	ref := BlockRef{
		ID: h[0], Fork: h[1] & blockFork, Block: le.Uint32(h[len(h)-4:]),
		HasImage: h[1]&blockHasImage != 0, WillInit: h[1]&blockWillInit != 0,
	}
	n := len(*refs)
	if n > 0 && (*refs)[n-1].ID >= ref.ID {
		return errBlocks
	}
	switch {
	case h[1]&blockSameRel == 0:
		l := h[len(h)-4-relFileLocatorSize:]
		ref.RelFileLocator = RelFileLocator{pg.OID(le.Uint32(l)), pg.OID(le.Uint32(l[4:])), le.Uint32(l[8:])}
	case n == 0:
		return errBlocks
	default:
		ref.RelFileLocator = (*refs)[n-1].RelFileLocator
	}
	*refs = append(*refs, ref)
	return nil
}

// Parts of a commit or abort record, in their order, by flag in xinfo (XACT_XINFO_HAS_*, xact.h).
const (
	xinfoDatabase = 1 << 0
	xinfoSubxacts = 1 << 1
	xinfoRels     = 1 << 2
	xinfoInvals   = 1 << 3
	xinfoTwoPhase = 1 << 4
	xinfoStats    = 1 << 8 // from 15 on
)

// preparedXID finds the identifier of the prepared transaction in the main data
// of the commit or abort that ends it (ParseCommitRecord, ParseAbortRecord,
// xactdesc.c). With cut, main may lack its end, and then the answer is 0 if the
// identifier is in the missing part.
func preparedXID(major int, info byte, main []byte, cut bool) (uint32, error) {
	le := binary.LittleEndian
	short := func() (uint32, error) {
		if cut {
			return 0, nil
		}
		return 0, fmt.Errorf("%w: a prepared transaction's end does not name the transaction", ErrRecord)
	}
	if info&xactHasInfo == 0 || len(main) < 12 {
		return short()
	}
	xinfo := le.Uint32(main[8:])
	if xinfo&xinfoTwoPhase == 0 {
		return 0, fmt.Errorf("%w: a prepared transaction's end does not name the transaction", ErrRecord)
	}
	off := uint64(12)
	if xinfo&xinfoDatabase != 0 {
		off += 8
	}
	statSize := uint64(12)
	if major >= 18 {
		statSize = 16
	}
	// Each list is a count and its items. An abort has no invalidations, and
	// 14 no dropped statistics; then the bits are not set.
	for _, list := range [...]struct {
		flag uint32
		item uint64
	}{{xinfoSubxacts, 4}, {xinfoRels, relFileLocatorSize}, {xinfoStats, statSize}, {xinfoInvals, 16}} {
		if xinfo&list.flag == 0 {
			continue
		}
		if off+4 > uint64(len(main)) {
			return short()
		}
		off += 4 + uint64(le.Uint32(main[off:]))*list.item
	}
	if off+4 > uint64(len(main)) {
		return short()
	}
	return le.Uint32(main[off:]), nil
}
