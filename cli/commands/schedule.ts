export function addSchedule(): void {}
