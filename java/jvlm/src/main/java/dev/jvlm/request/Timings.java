package dev.jvlm.request;

/**
 * Where the time went, in milliseconds. Requests share steps, so the parts of several add up to more than the clock shows.
 *
 * @param queuedMs from submission until the request was admitted, preparation aside
 * @param preprocessMs pictures to tiles, prompt to ids
 * @param visionMs tiles to vision rows
 * @param prefillMs from the last vision row (or admission) to the first token
 * @param decodeMs from the first token to the last
 * @param totalMs from submission to the end
 */
public record Timings(double queuedMs, double preprocessMs, double visionMs, double prefillMs, double decodeMs, double totalMs) {}
