/**
 * Modal's list prices, in US dollars an hour, of the base plan and without a choice of region (which multiplies them).
 * Source: modal.com/pricing as quoted in May and June 2026. They change: the bill is at modal.com/settings/usage.
 */
const usdPerGpuHour = new Map<string, number>([
  ["T4", 0.59],
  ["L4", 0.8],
  ["A10", 1.1],
  ["L40S", 1.95],
  ["A100", 2.1],
  ["A100-40GB", 2.1],
  ["A100-80GB", 2.5],
  ["RTX-PRO-6000", 3.03],
  ["H100", 3.95],
  ["H100!", 3.95],
  ["H200", 4.54],
  ["B200", 6.25],
  ["B200+", 6.25],
]);
/** a physical core of a sandbox: three times a Function's */
const usdPerCoreHour = 0.1419;
const usdPerGibHour = 0.0242;

export interface Reserved {
  /** e.g. "A100-80GB:2" */
  gpu?: string | undefined;
  cpuCores: number;
  memoryMiB: number;
}

/** What `reserved` costs an hour at the least; undefined when the price of its GPU is not known. */
export function usdPerHour({ gpu, cpuCores, memoryMiB }: Reserved): number | undefined {
  const [name, count = "1"] = gpu?.split(":") ?? [];
  const ofGpu = name === undefined ? 0 : usdPerGpuHour.get(name);
  if (ofGpu === undefined) return undefined;
  const cost = ofGpu * Number(count) + cpuCores * usdPerCoreHour + (memoryMiB / 1024) * usdPerGibHour;
  return Math.round(cost * 10_000) / 10_000;
}
