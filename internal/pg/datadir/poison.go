package datadir

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// PoisonedCheckpoint is the checkpoint position that PoisonCheckpoint writes.
// It is past the page header for every WAL block size, so that XRecOffIsValid
// (xlog_internal.h) accepts it, and it lies in WAL segment zero, which no
// cluster has: initdb begins with segment one.
const PoisonedCheckpoint pg.LSN = 0xDEAD

// PoisonCheckpoint returns a copy of a pg_control whose checkpoint leads
// nowhere, with a CRC that fits. It is for a restore with a backup_label, which
// holds the true checkpoint: the server takes that one and overwrites the
// poisoned. Once somebody deletes the backup_label (which would corrupt the
// cluster without any message, since recovery would begin too late), the server
// has no checkpoint to begin from and refuses to start.
//
// State, minimum recovery point and all else stay as they were. Never use it for
// a restore without a backup_label.
func PoisonCheckpoint(data []byte) ([]byte, error) {
	if _, err := ParseControl(data); err != nil {
		return nil, fmt.Errorf("poisoning the checkpoint of pg_control: %w", err)
	}
	crc, err := controlCRC(data)
	if err != nil {
		return nil, fmt.Errorf("poisoning the checkpoint of pg_control: %w", err)
	}
	out := bytes.Clone(data)
	binary.LittleEndian.PutUint64(out[offCheckpoint:], uint64(PoisonedCheckpoint))
	putCRC(out, crc)
	return out, nil
}

// putCRC stores the CRC-32C of all before it at the given offset.
func putCRC(data []byte, crc int) {
	binary.LittleEndian.PutUint32(data[crc:], controlSum(data[:crc]))
}
