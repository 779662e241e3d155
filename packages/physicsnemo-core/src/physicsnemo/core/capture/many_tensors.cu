// SPDX-License-Identifier: Apache-2.0
// The kernels of many_tensors.py. A block has THREADS threads, and each of these has EACH of the
// numbers in the block's row of a table.

// As AdamSettings.row has them: logarithms are to base 2, weight decay is coupled or decoupled, and
// the sign of gradients is that of a descent or an ascent.
struct AdamSettings {
    double log_beta1, log_beta2, beta1, beta2, eps, coupled, decoupled, sign, scaled, checked;
};

struct AdamRow {
    float *parameters, *gradients, *means, *squares;
    const float* count;
    long long size;
};

struct CheckRow {
    float* numbers;
    long long size;
};

struct Factors {
    float beta1, rest1, beta2, rest2, eps, coupled, decay, sign, step, root;
};

// Powers near 1 are taken in double precision, as their difference from 1 is what counts.
static __device__ Factors factors_of(const AdamSettings& given, double count, double rate)
{
    Factors made;
    made.beta1 = float(given.beta1);
    made.rest1 = float(1 - given.beta1);
    made.beta2 = float(given.beta2);
    made.rest2 = float(1 - given.beta2);
    made.eps = float(given.eps);
    made.coupled = float(given.coupled);
    made.decay = float(rate * given.decoupled);
    made.sign = float(given.sign);
    made.step = float(rate / (1 - exp2(count * given.log_beta1)));
    made.root = float(sqrt(1 - exp2(count * given.log_beta2)));
    return made;
}

extern "C" __global__ __launch_bounds__(THREADS) void adam(
    const AdamSettings* settings,
    const AdamRow* rows,
    const float* rate,
    const float* scale,
    const float* found)
{
    const AdamRow row = rows[blockIdx.x];
    // All is read before anything is known or written, so that no read waits for another.
    float p[EACH], g[EACH], m[EACH], v[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        const int i = threadIdx.x + k * THREADS;
        if (i < row.size) {
            p[k] = row.parameters[i];
            g[k] = row.gradients[i];
            m[k] = row.means[i];
            v[k] = row.squares[i];
        }
    }
    if (settings->checked != 0 && *found != 0)
        return;
    const bool scaled = settings->scaled != 0;
    const float divisor = scaled ? *scale : 1.0f;
    // By one thread, as many GPUs are slow in double precision.
    __shared__ Factors factors;
    if (threadIdx.x == 0)
        factors = factors_of(*settings, *row.count, *rate);
    __syncthreads();
    const Factors by = factors;
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        const int i = threadIdx.x + k * THREADS;
        if (i < row.size) {
            if (scaled) {
                g[k] /= divisor;
                row.gradients[i] = g[k];  // as PyTorch leaves them, too
            }
            const float slope = by.sign * g[k] + by.coupled * p[k];
            m[k] = by.beta1 * m[k] + by.rest1 * slope;
            v[k] = by.beta2 * v[k] + by.rest2 * slope * slope;
            p[k] -= by.decay * p[k];
            p[k] -= by.step * m[k] / (sqrtf(v[k]) / by.root + by.eps);
            row.means[i] = m[k];
            row.squares[i] = v[k];
            row.parameters[i] = p[k];
        }
    }
}

extern "C" __global__ __launch_bounds__(THREADS) void check(
    const CheckRow* rows, float* found, const float* factor)
{
    const CheckRow row = rows[blockIdx.x];
    const float by = *factor;
    float x[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        const int i = threadIdx.x + k * THREADS;
        x[k] = i < row.size ? row.numbers[i] : 0.0f;
    }
    bool finite = true;
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        const int i = threadIdx.x + k * THREADS;
        finite = finite && isfinite(x[k]);
        if (by != 1 && i < row.size)
            row.numbers[i] = x[k] * by;
    }
    if (!finite)
        *found = 1;
}
