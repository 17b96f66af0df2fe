"""Checks that the extension is what its file name says: one file for every Python from 3.10 and every torch from 2.11.

    python csrc/packaging/abi_check.py [FILE]

Reads the ELF file's dynamic section. What the module asks of others may only be: the C interface of torch (functions
named aoti_torch_* or torch_*), Python's limited API, and symbols that the C and C++ libraries version. A C++ symbol of
torch (at::, c10::, torch::) would tie it to one torch release.
"""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

# In the limited API since Python 3.2; extend it when the module needs more of Python.
PYTHON_SYMBOLS = {"PyModule_Create2"}
# Looked for by the compiler's own start-up code; absent is fine.
OPTIONAL_SYMBOLS = {"_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__"}
TORCH_SYMBOL = re.compile(r"^(aoti_)?torch_[a-z0-9_]+$")
LIBRARIES = {"libtorch.so", "libtorch_cpu.so", "libc10.so", "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6"}
LIBRARIES |= {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1"}
RUNPATH = "$ORIGIN/../torch/lib"

SHT_DYNSYM, SHT_VERSYM, DT_NEEDED, DT_RPATH, DT_RUNPATH = 11, 0x6FFFFFFF, 1, 15, 29


@dataclass
class Module:
    """What an extension module asks of others."""

    libraries: list[str]
    runpath: str
    undefined: dict[str, bool]  # symbol -> whether it is bound to a version of its library


def read_module(path: Path) -> Module:
    """The dynamic section of a 64-bit little-endian ELF file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise SystemExit(f"abi check: {path} must be a 64-bit little-endian ELF file")
    section_offset = struct.unpack_from("<Q", data, 40)[0]
    entry_size, count = struct.unpack_from("<HH", data, 58)
    # of each section: type, file offset, size, index of its string table, size of one entry
    sections = [_section(data, section_offset + entry_size * index) for index in range(count)]

    def text(table: int, offset: int) -> str:
        start = sections[table]["offset"] + offset
        return data[start : data.index(b"\0", start)].decode()

    by_type = {section["type"]: section for section in sections}
    dynamic = by_type[6]
    entries = struct.iter_unpack("<qQ", data[dynamic["offset"] : dynamic["offset"] + dynamic["size"]])
    tags = [(tag, text(dynamic["link"], value)) for tag, value in entries if tag in (DT_NEEDED, DT_RPATH, DT_RUNPATH)]
    symbols, versions = by_type[SHT_DYNSYM], by_type.get(SHT_VERSYM)
    undefined = {}
    for index in range(1, symbols["size"] // 24):
        name, _info, _other, home = struct.unpack_from("<IBBH", data, symbols["offset"] + 24 * index)
        if home == 0:
            version = struct.unpack_from("<H", data, versions["offset"] + 2 * index)[0] if versions else 1
            undefined[text(symbols["link"], name)] = version & 0x7FFF > 1
    return Module(
        libraries=[name for tag, name in tags if tag == DT_NEEDED],
        runpath=":".join(name for tag, name in tags if tag != DT_NEEDED),
        undefined=undefined,
    )


def _section(data: bytes, at: int) -> dict[str, int]:
    _name, kind, _flags, _addr, offset, size, link = struct.unpack_from("<IIQQQQI", data, at)
    return {"type": kind, "offset": offset, "size": size, "link": link}


def faults_of(path: Path) -> list[str]:
    """Everything that keeps this file from being one for all; empty where it is."""
    module = read_module(path)
    faults = [] if path.name.endswith(".abi3.so") else [f"the file name must end in .abi3.so, it is {path.name}"]
    if module.runpath != RUNPATH:
        faults.append(f"the run path must be {RUNPATH}, it is {module.runpath or 'empty'}")
    if "libtorch.so" not in module.libraries:
        faults.append("libtorch.so must be a direct dependency: the CUDA stream lookup is found through it")
    faults += [f"depends on {name}" for name in module.libraries if name not in LIBRARIES]
    for symbol, versioned in sorted(module.undefined.items()):
        allowed = versioned or symbol in OPTIONAL_SYMBOLS or symbol in PYTHON_SYMBOLS or TORCH_SYMBOL.match(symbol)
        if not allowed:
            faults.append(f"asks for {symbol}")
    return faults


def main(arguments: list[str]) -> int:
    """Check one file (default: the module of this checkout); 0 where it holds."""
    path = Path(arguments[0] if arguments else Path(__file__).resolve().parents[2] / "svm_ext/_C.abi3.so")
    if not path.exists():
        print(f"abi check: no such file: {path}; build it with: pip install -e .", file=sys.stderr)
        return 2
    faults = faults_of(path)
    for fault in faults:
        print(f"abi check: {path.name}: {fault}")
    if not faults:
        shim = sum(bool(TORCH_SYMBOL.match(symbol)) for symbol in read_module(path).undefined)
        print(f"abi check: {path.name}: holds ({shim} functions of torch's stable C interface, no C++ symbol of torch)")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
