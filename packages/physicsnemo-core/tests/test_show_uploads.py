# SPDX-License-Identifier: Apache-2.0
"""Arrays that a user gives to the page of ``physicsnemo show``."""

import io

import h5netcdf
import h5py
import numpy as np
import pytest

from physicsnemo.cli.page import uploads
from physicsnemo.cli.page.uploads import UploadError, list_arrays, read_array

WAVES = np.arange(24.0).reshape(2, 3, 4)


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def netcdf(fill):
    stream = io.BytesIO()
    with h5netcdf.File(stream, "w") as data:
        data.dimensions = {"time": 2, "lat": 3, "lon": 4}
        fill(data)
    return stream.getvalue()


def hdf5(fill):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def header(shape, dtype="<f8"):
    stream = io.BytesIO()
    content = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array", [WAVES, np.asfortranarray(WAVES), WAVES.astype(">f4"), WAVES > 5, WAVES * 1j]
)
def test_npy(array):
    content = npy(array)
    assert list_arrays("waves.npy", content) == {"waves": (2, 3, 4)}
    found = read_array("waves.npy", content, "waves")
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_variables_of_netcdf_come_the_largest_first():
    def fill(data):
        data.create_variable("lon", ("lon",), data=np.arange(4.0))
        data.create_variable("wind", ("time", "lat", "lon"), data=WAVES)
        data.create_variable("station", ("lat",), data=np.array([b"a", b"b", b"c"]))

    content = netcdf(fill)
    assert list(list_arrays("winds.nc", content).items()) == [("wind", (2, 3, 4)), ("lon", (4,))]
    assert np.array_equal(read_array("winds.nc", content, "wind"), WAVES)


def test_packed_numbers_and_missing_values():
    def fill(data):
        packed = np.array([[0, 10, -99, 20]] * 3, "i2")
        variable = data.create_variable("t", ("lat", "lon"), data=packed, fillvalue=np.int16(-99))
        variable.attrs["scale_factor"] = 0.5
        variable.attrs["add_offset"] = 273.0
        variable.attrs["units"] = "K"

    found = read_array("t.nc", netcdf(fill), "t")
    assert found.dtype == np.float64
    assert np.array_equal(found, [[273.0, 278.0, np.nan, 283.0]] * 3, equal_nan=True)


def test_scaled_floats_stay_single():
    def fill(data):
        numbers = np.ones((3, 4), "f4")
        data.create_variable("t", ("lat", "lon"), data=numbers).attrs["scale_factor"] = 2.0

    found = read_array("t.nc", netcdf(fill), "t")
    assert (found.dtype, found[0, 0]) == (np.float32, 2.0)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", b"1 2 3", "expected a .npy or .nc file, got a.txt"),
        ("a.npy", b"1 2 3", "a.npy is no .npy file as numpy.save writes one"),
        ("a.npy", npy(np.ones(3))[:-4], "20 bytes of numbers, expected 24 for shape (3,)"),
        ("a.npy", npy(np.ones(3)) + b"x", "25 bytes of numbers, expected 24"),
        ("a.npy", npy(np.array([{}]), allow_pickle=True), "holds Python objects, which could run"),
        ("a.npy", npy(np.array(["x"])), "a.npy holds <U1; expected numbers"),
        ("a.npy", npy(np.zeros((3, 0))), "an empty array, of shape (3, 0)"),
        ("a.npy", header((10**7, 10**7)), "of shape (10000000, 10000000) and 762,939,453 MB"),
        ("a.nc", b"CDF\x01" + bytes(40), "a.nc is netCDF 3; expected netCDF 4, which nccopy"),
        ("a.nc", b"<html>", "a.nc is no netCDF 4 file"),
        ("a.nc", b"\x89HDF\r\n\x1a\n" + bytes(99), "a.nc cannot be read"),
        ("\x1b[2J.npy", b"", "\\x1b[2J.npy is no .npy file"),
    ],
)
def test_what_is_refused(name, content, text):
    for read in (list_arrays, lambda *given: read_array(*given, "a")):
        with pytest.raises(UploadError) as caught:
            read(name, content)
        assert text in str(caught.value)


def test_too_large_files(monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST", 2**20)
    text = "a.npy has 2 MB; expected at most 1 MB"
    with pytest.raises(UploadError, match=text):
        list_arrays("a.npy", bytes(2 * 2**20))


def test_a_small_file_cannot_claim_a_large_variable():
    def fill(file):
        file.create_dataset("wind", (10**6, 10**6), "f4", chunks=(100, 100), compression="gzip")

    content = hdf5(fill)
    assert len(content) < 100_000
    with pytest.raises(UploadError, match="3,814,697 MB; expected at most 256 MB"):
        read_array("a.nc", content, "wind")


def test_other_files_are_not_read(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["numbers"] = np.ones(3)

    def link(file):
        file["wind"] = h5py.ExternalLink(str(secret), "/numbers")

    def detour(file):
        file.create_group("inner")["wind"] = h5py.ExternalLink(str(secret), "/numbers")
        file["wind"] = h5py.SoftLink("/inner/wind")

    def raw(file):
        file.create_dataset("wind", (3,), "f8", external=[(str(secret), 0, 24)])

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "numbers", (3,))
        file.create_virtual_dataset("wind", layout)

    for fill, text in ((link, "leads elsewhere"), (detour, "leads elsewhere")):
        with pytest.raises(UploadError, match=text):
            read_array("a.nc", hdf5(fill), "wind")
    for fill in (raw, virtual):
        with pytest.raises(UploadError, match="keeps its variable 'wind' in another file"):
            list_arrays("a.nc", hdf5(fill))


def test_a_variable_that_is_not_there():
    content = netcdf(lambda data: data.create_variable("t", ("lat",), data=np.ones(3)))
    with pytest.raises(UploadError, match="a.nc has no variable 'u'"):
        read_array("a.nc", content, "u")
    with pytest.raises(UploadError, match="has no variable of numbers outside of groups"):
        list_arrays("a.nc", netcdf(lambda data: None))
