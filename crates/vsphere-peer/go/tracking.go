// Change tracking, which the packaged simulator lacks: compiled into its package beside inside.go.
package simulator

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// PeerGrain is the size of a block that change tracking tells apart.
const PeerGrain = 64 << 10

// PeerPage is one scripted answer to QueryChangedDiskAreas.
type PeerPage struct {
	Start  int64      `json:"start"`
	Length int64      `json:"length"`
	Areas  [][2]int64 `json:"areas"`
	// Fault, when set, is answered in place of areas: the name of a method fault.
	Fault string `json:"fault"`
}

func scriptKey(vm string, key int32) string { return fmt.Sprintf("%s/%d", vm, key) }

// PeerScript sets the answers for a disk; without pages, the truth is told again.
func PeerScript(vm string, key int32, pages []PeerPage) {
	peer.Lock()
	defer peer.Unlock()
	if len(pages) == 0 {
		delete(peer.scripts, scriptKey(vm, key))
	} else {
		peer.scripts[scriptKey(vm, key)] = pages
	}
}

// PeerPageSize bounds the areas of one honest answer.
func PeerPageSize(areas int) { peer.Lock(); peer.pageArea = areas; peer.Unlock() }

// PeerRestartTracking makes later change ids begin with another UUID, as after a reset.
func PeerRestartTracking(uuid string) { peer.Lock(); peer.uuid = uuid; peer.Unlock() }

func flatBacking(d types.BaseVirtualDevice) *types.VirtualDiskFlatVer2BackingInfo {
	b, _ := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return b
}

func flatFile(b *types.VirtualDiskFlatVer2BackingInfo) (string, error) {
	at, err := PeerPath(b.FileName, b.Datastore)
	if err != nil {
		return "", err
	}
	return at[:len(at)-len(".vmdk")] + "-flat.vmdk", nil
}

func grains(file string, size int64) ([][32]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all [][32]byte
	buffer := make([]byte, PeerGrain)
	for at := int64(0); at < size; at += PeerGrain {
		n, err := f.ReadAt(buffer, at)
		if err != nil && err != io.EOF {
			return nil, err
		}
		for i := n; i < len(buffer); i++ {
			buffer[i] = 0
		}
		all = append(all, sha256.Sum256(buffer))
	}
	return all, nil
}

// PeerMark gives every tracked disk of a VM a new change id, and remembers what it holds; to be called before a snapshot.
// Tracking that is off at that moment ends: a VM has to have a snapshot while it is off to begin anew.
// The live devices are replaced by copies, because the simulator lets older snapshots share them.
func PeerMark(vm *VirtualMachine) error {
	off := vm.Config.ChangeTrackingEnabled == nil || !*vm.Config.ChangeTrackingEnabled
	if off {
		peer.Lock()
		peer.anew[vm.Self.Value]++
		peer.Unlock()
	}
	devices := append(object.VirtualDeviceList(nil), vm.Config.Hardware.Device...)
	for i, d := range devices {
		disk, ok := d.(*types.VirtualDisk)
		if !ok {
			continue
		}
		b := flatBacking(disk)
		if b == nil || b.ChangeId == "untracked" || off && b.ChangeId == "" {
			continue
		}
		newDisk, newBacking := *disk, *b
		newDisk.Backing = &newBacking
		devices[i] = &newDisk
		// One that is not active yet tells nothing once, and is as any other from the next mark on.
		if newBacking.ChangeId = ""; off || b.ChangeId == "silent" {
			continue
		}
		file, err := flatFile(b)
		if err != nil {
			return err
		}
		state, err := grains(file, disk.CapacityInKB*1024)
		if err != nil {
			return err
		}
		peer.Lock()
		peer.sequence++
		id := fmt.Sprintf("%s %02x/%d", peer.uuid, peer.anew[vm.Self.Value], peer.sequence)
		peer.marks[scriptKey(vm.Self.Value, disk.Key)+"@"+id] = state
		peer.Unlock()
		newBacking.ChangeId = id
	}
	vm.Config.Hardware.Device = devices
	return nil
}

// QueryChangedDiskAreas is missing from the packaged simulator.
// The wire encoding is the package's; what the answers mean is this project's reading of the API's documentation.
func (vm *VirtualMachine) QueryChangedDiskAreas(ctx *Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := &methods.QueryChangedDiskAreasBody{}
	info, fault := vm.changedAreas(req)
	if fault != nil {
		body.Fault_ = Fault("A specified parameter was not correct.", fault)
		return body
	}
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: *info}
	return body
}

func (vm *VirtualMachine) changedAreas(req *types.QueryChangedDiskAreas) (*types.DiskChangeInfo, types.BaseMethodFault) {
	if req.Snapshot == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "snapshot"}
	}
	snapshot, ok := Map.Get(*req.Snapshot).(*VirtualMachineSnapshot)
	if !ok {
		return nil, &types.NotFound{}
	}
	var disk *types.VirtualDisk
	for _, d := range snapshot.Config.Hardware.Device {
		if it, ok := d.(*types.VirtualDisk); ok && it.Key == req.DeviceKey {
			disk = it
		}
	}
	if disk == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
	}
	if info, fault, scripted := nextPage(scriptKey(vm.Name, req.DeviceKey)); scripted {
		return info, fault
	}
	size := disk.CapacityInKB * 1024
	if req.StartOffset >= size {
		return nil, &types.InvalidArgument{InvalidProperty: "startOffset"}
	}
	return honest(vm, disk, req.ChangeId, req.StartOffset, size)
}

func nextPage(script string) (*types.DiskChangeInfo, types.BaseMethodFault, bool) {
	peer.Lock()
	defer peer.Unlock()
	pages, ok := peer.scripts[script]
	if !ok {
		return nil, nil, false
	}
	page := pages[0]
	if len(pages) > 1 {
		peer.scripts[script] = pages[1:]
	}
	if page.Fault != "" {
		return nil, PeerFault(page.Fault), true
	}
	info := &types.DiskChangeInfo{StartOffset: page.Start, Length: page.Length}
	for _, area := range page.Areas {
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: area[0], Length: area[1]})
	}
	return info, nil, true
}

func honest(vm *VirtualMachine, disk *types.VirtualDisk, since string, start, size int64) (*types.DiskChangeInfo, types.BaseMethodFault) {
	b := flatBacking(disk)
	if b == nil || b.ChangeId == "" {
		return nil, &types.FileFault{File: "change tracking was off"}
	}
	prefix := scriptKey(vm.Self.Value, disk.Key) + "@"
	peer.Lock()
	now, known := peer.marks[prefix+b.ChangeId]
	then, earlier := peer.marks[prefix+since]
	limit := peer.pageArea
	peer.Unlock()
	if !known || (!earlier && since != "*") {
		return nil, &types.InvalidArgument{InvalidProperty: "changeId"}
	}
	zero := sha256.Sum256(make([]byte, PeerGrain))
	info := &types.DiskChangeInfo{StartOffset: start, Length: size - start}
	for i := start / PeerGrain; i < int64(len(now)); i++ {
		old := zero
		if i < int64(len(then)) {
			old = then[i]
		}
		if now[i] == old {
			continue
		}
		at, end := i*PeerGrain, (i+1)*PeerGrain
		if end > size {
			end = size
		}
		if n := len(info.ChangedArea); n > 0 && info.ChangedArea[n-1].Start+info.ChangedArea[n-1].Length == at {
			info.ChangedArea[n-1].Length += end - at
			continue
		}
		if len(info.ChangedArea) == limit {
			info.Length = at - start
			break
		}
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: at, Length: end - at})
	}
	return info, nil
}
