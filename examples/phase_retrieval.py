"""Phase retrieval: a complex field is found from intensities alone, by Adam on a complex array.

    python examples/phase_retrieval.py

A camera that is far away sees |F(mask*z)|^2, the intensity of the Fourier transform of a field z behind a mask, and
none of its phases. Several random phase masks, one after the other, make that enough to tell z but for one phase of all
of it (Candes, Li and Soltanolkotabi 2015, "Phase retrieval from coded diffraction patterns"). With u = F(mask*z) and
b the root of an intensity, the loss is the mean of (|u| - b)^2 (Zhang, Zhou, Liang and Chi 2017, "Reshaped Wirtinger
flow").

A complex parameter z = x + iy is a pair of real ones, and its gradient is dL/dx + i*dL/dy: here, up to a factor, the
adjoint of u applied to (|u| - b)*u/|u|. It points uphill, as that of torch does. JAX's jax.grad returns the conjugate,
dL/dx - i*dL/dy, which does not: the last line shows where that leads.
"""
import numpy as np

import fastopt
from fastopt import schedules

SIZE, MASKS, STEPS, PHOTONS = 64, 10, 400, 100  # PHOTONS: of a pixel of the camera, in the mean


def field():
    """A bright ring with a phase that winds around it, and a dim wave across."""
    y, x = np.mgrid[-1:1:SIZE*1j, -1:1:SIZE*1j]
    r, turn = np.hypot(x, y), np.arctan2(y, x)
    return np.exp(-20*(r - 0.6)**2)*np.exp(3j*turn) + 0.3*np.exp(5j*(x + 0.5*y**2))


def camera(z, masks):
    """The field at the camera, one for each mask."""
    return np.fft.fft2(masks*z, norm="ortho")


def value_and_grad(z, masks, b):
    """The mean of (|u| - b)^2 over the pixels of all masks, and dL/dx + i*dL/dy."""
    u = camera(z, masks)
    size = np.abs(u)
    error = size - b
    back = np.fft.ifft2(error*u/np.maximum(size, 1e-12), norm="ortho")
    return np.mean(error**2), 2/b.size*(masks.conj()*back).sum(axis=0)


def distance(z, truth):
    """The relative error of z, turned by the phase that suits it best."""
    phase = np.vdot(z, truth)
    return np.linalg.norm(z*phase/abs(phase) - truth)/np.linalg.norm(truth)


def retrieve(masks, b, conjugate=False):
    """The field that Adam finds from noise, with the values of the loss."""
    rng = np.random.default_rng(1)
    z = (rng.standard_normal((SIZE, SIZE)) + 1j*rng.standard_normal((SIZE, SIZE))).astype(np.complex64)*b.mean()
    opt, values = fastopt.Adam(z, lr=schedules.cosine(0.3, steps=STEPS), eps=1e-12), []
    for _ in range(STEPS):
        value, g = value_and_grad(z, masks, b)
        opt.step(g.conj() if conjugate else g)
        values.append(value)
    return z, values


def main():
    rng = np.random.default_rng(0)
    truth = field().astype(np.complex64)
    masks = np.exp(2j*np.pi*rng.random((MASKS, SIZE, SIZE))).astype(np.complex64)
    exact = np.abs(camera(truth, masks))**2
    scale = PHOTONS/exact.mean()
    counted = (rng.poisson(scale*exact)/scale).astype(np.float32)
    print(f"a field of {SIZE} x {SIZE} complex numbers, {MASKS} masks; its relative error up to a global phase")
    errors = {}
    for name, intensity in (("exact intensities", exact), (f"{PHOTONS} photons a pixel", counted)):
        z, values = retrieve(masks, np.sqrt(intensity))
        errors[name] = distance(z, truth)
        print(f"{name:22} loss {values[0]:.4f} -> {values[-1]:.2e}   error {errors[name]:.1e}")
    z, values = retrieve(masks, np.sqrt(exact), conjugate=True)
    print(f"{'the conjugate gradient':22} loss {values[0]:.4f} -> {values[-1]:.2e}   error {distance(z, truth):.1e}")
    if errors["exact intensities"] > 1e-3:
        raise SystemExit("phase_retrieval: the field was not found, but an error below 1e-3 was needed. Please report "
                         "it.")


if __name__ == "__main__":
    main()
