package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// diskShape says what a disk of a VM looks like; the file is made with its capacity, as one long hole.
type diskShape struct {
	Key       int32  `json:"key"`
	Unit      int32  `json:"unit"`
	File      string `json:"file"`
	Capacity  int64  `json:"capacity"`
	UUID      string `json:"uuid"`
	ChangeID  string `json:"change_id"`
	Mode      string `json:"mode"`
	Sharing   string `json:"sharing"`
	Thin      bool   `json:"thin"`
	Parent    string `json:"parent"`
	RDM       string `json:"rdm"`
	Bus       string `json:"bus"`
	BusShared string `json:"bus_sharing"`
	Encrypted bool   `json:"encrypted"`
	Format    string `json:"format"`
}

// vmShape changes what it names of a VM, and nothing else.
type vmShape struct {
	VM                string       `json:"vm"`
	Name              *string      `json:"name"`
	InstanceUUID      *string      `json:"instance_uuid"`
	Template          *bool        `json:"template"`
	Version           *string      `json:"version"`
	Tracking          *bool        `json:"tracking"`
	TrackingSupported *bool        `json:"tracking_supported"`
	Consolidation     *bool        `json:"consolidation"`
	FaultTolerance    *string      `json:"fault_tolerance"`
	Encrypted         *bool        `json:"encrypted"`
	Power             *string      `json:"power"`
	Connection        *string      `json:"connection"`
	Tools             *string      `json:"tools"`
	DatastoreType     *string      `json:"datastore_type"`
	Disks             *[]diskShape `json:"disks"`
}

func orDefault(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

func shape(it vmShape) (interface{}, error) {
	vm := simulator.PeerVM(it.VM)
	if vm == nil {
		return nil, fmt.Errorf("there is no VM %q", it.VM)
	}
	var files []string
	var failed error
	simulator.Map.WithLock(vm, func() {
		if it.Name != nil {
			vm.Name, vm.Config.Name, vm.Summary.Config.Name = *it.Name, *it.Name, *it.Name
		}
		if it.InstanceUUID != nil {
			vm.Config.InstanceUuid, vm.Summary.Config.InstanceUuid = *it.InstanceUUID, *it.InstanceUUID
		}
		if it.Template != nil {
			vm.Config.Template, vm.Summary.Config.Template = *it.Template, *it.Template
		}
		if it.Version != nil {
			vm.Config.Version = *it.Version
		}
		if it.Tracking != nil {
			vm.Config.ChangeTrackingEnabled = it.Tracking
		}
		if it.TrackingSupported != nil {
			vm.Capability.ChangeTrackingSupported = it.TrackingSupported
		}
		if it.Consolidation != nil {
			vm.Runtime.ConsolidationNeeded = it.Consolidation
		}
		if it.FaultTolerance != nil {
			vm.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceState(*it.FaultTolerance)
		}
		if it.Encrypted != nil {
			vm.Config.KeyId = key(*it.Encrypted)
		}
		if it.Power != nil {
			vm.Runtime.PowerState = types.VirtualMachinePowerState(*it.Power)
			vm.Summary.Runtime.PowerState = vm.Runtime.PowerState
		}
		if it.Connection != nil {
			vm.Runtime.ConnectionState = types.VirtualMachineConnectionState(*it.Connection)
			vm.Summary.Runtime.ConnectionState = vm.Runtime.ConnectionState
		}
		if it.Tools != nil {
			vm.Guest.ToolsRunningStatus = *it.Tools
		}
		if it.DatastoreType != nil {
			for _, store := range vm.Datastore {
				simulator.PeerDatastoreType(store, *it.DatastoreType)
			}
		}
		if it.Disks != nil {
			files, failed = setDisks(vm, *it.Disks)
		}
	})
	return map[string]interface{}{"id": vm.Self.Value, "files": files}, failed
}

func key(wanted bool) *types.CryptoKeyId {
	if !wanted {
		return nil
	}
	return &types.CryptoKeyId{KeyId: "key-1", ProviderId: &types.KeyProviderId{Id: "provider-1"}}
}

// setDisks replaces all disks of a VM, and their controllers.
func setDisks(vm *simulator.VirtualMachine, disks []diskShape) ([]string, error) {
	var devices object.VirtualDeviceList
	for _, d := range vm.Config.Hardware.Device {
		switch d.(type) {
		case *types.VirtualDisk, *types.ParaVirtualSCSIController, *types.VirtualAHCIController:
		default:
			devices = append(devices, d)
		}
	}
	made := map[int32]bool{}
	files := []string{}
	for i, shape := range disks {
		controller, err := controllerOf(shape)
		if err != nil {
			return nil, err
		}
		if at := controller.GetVirtualDevice().Key; !made[at] {
			made[at] = true
			devices = append(devices, controller)
		}
		disk, file, err := makeDisk(vm, i, shape, controller.GetVirtualDevice().Key)
		if err != nil {
			return nil, err
		}
		devices = append(devices, disk)
		files = append(files, file)
	}
	vm.Config.Hardware.Device = devices
	return files, nil
}

func controllerOf(shape diskShape) (types.BaseVirtualDevice, error) {
	var base types.VirtualController
	base.DeviceInfo = &types.Description{Label: "controller 0", Summary: "controller"}
	switch orDefault(shape.Bus, "scsi0") {
	case "scsi0", "scsi1":
		it := &types.ParaVirtualSCSIController{}
		it.VirtualController = base
		it.Key = 1000
		if shape.Bus == "scsi1" {
			it.Key, it.BusNumber = 1001, 1
		}
		it.SharedBus = types.VirtualSCSISharing(orDefault(shape.BusShared, "noSharing"))
		return it, nil
	case "sata0":
		it := &types.VirtualAHCIController{}
		it.VirtualController = base
		it.Key = 15000
		return it, nil
	default:
		return nil, fmt.Errorf("there is no bus %q", shape.Bus)
	}
}

func makeDisk(vm *simulator.VirtualMachine, index int, shape diskShape, controller int32) (*types.VirtualDisk, string, error) {
	home := path.Dir(vm.Config.Files.VmPathName)
	name := home + "/" + shape.File
	var store *types.ManagedObjectReference
	if len(vm.Datastore) > 0 {
		store = &vm.Datastore[0]
	}
	at, err := simulator.PeerPath(name, store)
	if err != nil {
		return nil, "", err
	}
	flat := strings.TrimSuffix(at, ".vmdk") + "-flat.vmdk"
	if shape.Parent != "" {
		flat = strings.TrimSuffix(at, ".vmdk") + "-delta.vmdk"
	}
	if err := sized(flat, shape.Capacity); err != nil {
		return nil, "", err
	}
	if err := os.WriteFile(at, []byte("# Disk DescriptorFile\n"), 0o600); err != nil {
		return nil, "", err
	}
	disk := &types.VirtualDisk{CapacityInKB: shape.Capacity / 1024, CapacityInBytes: shape.Capacity}
	disk.Key = shape.Key
	unit := shape.Unit
	disk.UnitNumber, disk.ControllerKey = &unit, controller
	disk.DeviceInfo = &types.Description{Label: fmt.Sprintf("Hard disk %d", index+1), Summary: "disk"}
	if shape.RDM != "" {
		backing := &types.VirtualDiskRawDiskMappingVer1BackingInfo{CompatibilityMode: shape.RDM, DiskMode: orDefault(shape.Mode, "independent_persistent"), LunUuid: "0200", DeviceName: "vml.02", Uuid: shape.UUID}
		backing.FileName, backing.Datastore = name, store
		disk.Backing = backing
		return disk, flat, nil
	}
	thin := shape.Thin
	if backing := otherFormat(shape, name, store); backing != nil {
		disk.Backing = backing
		return disk, flat, nil
	}
	backing := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: orDefault(shape.Mode, "persistent"), ThinProvisioned: &thin, Uuid: shape.UUID, ChangeId: shape.ChangeID, Sharing: shape.Sharing, KeyId: key(shape.Encrypted)}
	backing.FileName, backing.Datastore = name, store
	if shape.Parent != "" {
		backing.Parent = &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent"}
		backing.Parent.FileName = home + "/" + shape.Parent
	}
	disk.Backing = backing
	return disk, flat, nil
}

// otherFormat is the backing of a file that is not flat.
func otherFormat(shape diskShape, name string, store *types.ManagedObjectReference) types.BaseVirtualDeviceBackingInfo {
	mode := orDefault(shape.Mode, "persistent")
	switch shape.Format {
	case "sparse":
		backing := &types.VirtualDiskSparseVer2BackingInfo{DiskMode: mode, Uuid: shape.UUID, ChangeId: shape.ChangeID}
		backing.FileName, backing.Datastore = name, store
		return backing
	case "se_sparse":
		backing := &types.VirtualDiskSeSparseBackingInfo{DiskMode: mode, Uuid: shape.UUID, ChangeId: shape.ChangeID}
		backing.FileName, backing.Datastore = name, store
		return backing
	default:
		return nil
	}
}

// sized makes a file, or gives the one that is there another length.
func sized(file string, size int64) error {
	if err := os.MkdirAll(path.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}
